//! The targets of rules and payloads over seeded mutations of the matcher's fixtures: the same every time.

use std::fs;
use std::path::PathBuf;

use distric_fuzz::RULES_TARGETS;
use distric_oracle::draw::Draw;

/// Mutations of documents; each is read, written and read again.
const DOCUMENT_ROUNDS: usize = 1_500;
/// Mutations of payloads.
const PAYLOAD_ROUNDS: usize = 10_000;
/// Longest document, bytes.
const DOCUMENT_BYTES_MAX: usize = 4 << 10;

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../rules/tests/fixtures").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Parts of rules in several spellings, put together line by line.
fn documents() -> Vec<Vec<u8>> {
    let yaml = fixture("mixed-7/rules.yaml");
    let lines: Vec<&str> = yaml.lines().skip(1).collect();
    let mut documents: Vec<Vec<u8>> = lines.chunks(6).map(|chunk| format!("rules:\n{}\n", chunk.join("\n")).into_bytes()).collect();
    documents.push(
        b"rules:\n- id: a\n  event_type: order\n  priority: 3\n  conditions:\n    all:\n    - {field: amount, operator: in_range, value: [1, 9]}\n    - not: {field: ip, op: cidr, value: [10.0.0.0/8, '::1']}\n  transform:\n  - {compute: total, expr: amount * 2}\n  - {lookup: a, in: t, to: b, default: 1}\n  actions:\n  - {workflow: w, params: {who: '${user.id}'}, timeout: 5s}\n- {id: b, after: [a], requires: any, on_match: stop}\nlookups: {t: {k: 1}}\nfail_fast: true\n"
            .to_vec(),
    );
    documents
}

fn payloads() -> Vec<Vec<u8>> {
    let mut payloads: Vec<Vec<u8>> = ["nested-7", "mixed-42"]
        .iter()
        .flat_map(|name| fixture(&format!("{name}/messages.jsonl")).lines().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>())
        .collect();
    payloads.extend(
        [&br#"{"a":[1,{"b":"\u00e9\n"}],"event_type":"t1","payload":{"a":-0.0}}"#[..], b"[1e400]", b"{\"a\":1,\"a\":2}"]
            .map(<[u8]>::to_vec),
    );
    payloads
}

/// The same documents as MessagePack, and one with every kind of head.
fn packed_payloads() -> Vec<Vec<u8>> {
    let documents = payloads().into_iter().filter_map(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let mut packed: Vec<Vec<u8>> =
        documents.map(|document| rmp_serde::to_vec_named(&document).expect("a JSON document can be packed")).collect();
    packed.push(b"\xdf\0\0\0\x03\xa1a\xdd\0\0\0\x02\xca\x3f\x80\0\0\xd3\xff\xff\xff\xff\xff\xff\xff\xfe\xd9\x01b\xde\0\x01\xda\0\x01b\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa1a\xc0".to_vec());
    packed
}

fn mutate(draw: &mut Draw, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=draw.below(4) {
        let at = draw.below(input.len().max(1));
        match draw.below(7) {
            _ if input.is_empty() => input.extend_from_slice(other),
            0 => input[at] ^= 1 << draw.below(8),
            1 => input[at] = *draw.pick(&b"{}[]\",:\\u0019-.eEtfn \n\x00\xc3a&*|>#\x81\x92\xa1\xc0\xc4\xcb\xcf\xd4\xdb\xdd\xdf\xff"[..]),
            2 => input.truncate(at),
            3 => input.insert(at, *draw.pick(&b"{}[]\",:\\ \n-0"[..])),
            4 => drop(input.remove(at)),
            5 => {
                let (from, to) = (draw.below(other.len() + 1), draw.below(other.len() + 1));
                input.splice(at..at, other[from.min(to)..from.max(to)].iter().copied()).for_each(drop);
            }
            _ => input.splice(at..at, input[at..].to_vec()).for_each(drop),
        }
        input.truncate(DOCUMENT_BYTES_MAX);
    }
}

#[test]
fn no_mutation_of_rules_or_payloads_brings_a_target_down() {
    let (documents, payloads, packed) = (documents(), payloads(), packed_payloads());
    for (name, target) in RULES_TARGETS {
        let mut draw = Draw::new(name, 1);
        let (inputs, rounds) = match *name {
            "rules" => (&documents, DOCUMENT_ROUNDS),
            "packed" => (&packed, PAYLOAD_ROUNDS),
            _ => (&payloads, PAYLOAD_ROUNDS),
        };
        let rounds = if *name == "program" { rounds / 10 } else { rounds };
        for round in 0..rounds {
            let mut input = draw.pick(inputs).clone();
            if round >= inputs.len() {
                let other = draw.pick(inputs).clone();
                mutate(&mut draw, &mut input, &other);
            }
            if *name == "program" {
                input.splice(0..0, (draw.below(64) as u16).to_le_bytes());
            }
            let outcome = std::panic::catch_unwind(|| target(&input));
            assert!(outcome.is_ok(), "{name}, round {round}: {:?}", String::from_utf8_lossy(&input));
        }
    }
}
