//! Claims about documents: what is read, what is refused, and where it says that the fault is.

use super::*;

/// The canonical JSON of a text, or the problem's text.
fn read(name: &str, text: &str) -> String {
    match parse_document(name, text) {
        Ok(document) => document.root.to_json().to_string(),
        Err(problem) => problem.to_string(),
    }
}

#[test]
fn every_node_knows_its_line_and_column() {
    let document = parse_document("f.yaml", "a: 1\nb:\n  - é: x\n    c: [1, {d: 2}]\n").unwrap();
    let at = |node: &Node| (node.at.line, node.at.column);
    let b = document.root.get("b").unwrap();
    let NodeValue::List(items) = &b.value else { panic!("not a list") };
    assert_eq!((at(&document.root), at(b), at(&items[0])), ((1, 1), (3, 3), (3, 5)));
    assert_eq!(at(items[0].get("é").unwrap()), (3, 8));
    let NodeValue::List(c) = &items[0].get("c").unwrap().value else { panic!("not a list") };
    assert_eq!((at(&c[0]), at(&c[1]), at(c[1].get("d").unwrap())), ((4, 9), (4, 12), (4, 16)));

    let document = parse_document("f.json", "{\"a\": [1,\n  {\"é\": 2}]}").unwrap();
    let NodeValue::List(items) = &document.root.get("a").unwrap().value else { panic!("not a list") };
    assert_eq!((at(&items[0]), at(&items[1]), at(items[1].get("é").unwrap())), ((1, 8), (2, 3), (2, 9)));
}

#[test]
fn json_and_yaml_give_the_same_tree() {
    for name in ["f", "f.json", "f.yaml"] {
        assert_eq!(
            read(name, r#" {"a":[1,-2.50,1e3,true,null,"x\n\u00e9\/"],"b":{}} "#),
            r#"{"a":[1,-2.5,1000.0,true,null,"x\né/"],"b":{}}"#,
            "{name}"
        );
    }
    assert_eq!(read("f", "a: [1, -2.50, 1e3, true, null, \"x\\n\\u00e9/\"]\nb: {}\n"), r#"{"a":[1,-2.5,1000.0,true,null,"x\né/"],"b":{}}"#);
    assert_eq!(read("f.json", r#""\ud83d\ude00""#), "\"\u{1f600}\"");
    assert_eq!(read("f", "{a: b, c: [d]}"), r#"{"a":"b","c":["d"]}"#);
    assert_eq!(read("f", "\u{feff}a: 'no'"), r#"{"a":"no"}"#);
    assert_eq!((read("f", ""), read("f", "# only a comment\n")), ("null".into(), "null".into()));
    assert_eq!(read("f", "a: |\n  x\n  y\nb: >\n  x\n  y\n"), r#"{"a":"x\ny\n","b":"x y\n"}"#);
    assert_eq!(read("f", "a: !!str 5\nb: !!float 5\nc: &x {d: 1}\ne: *x\n1: 2"), r#"{"1":2,"a":"5","b":5,"c":{"d":1},"e":{"d":1}}"#);
}

#[test]
fn every_kind_of_fault_names_its_place() {
    for (name, text, problem) in [
        ("f.json", "{\"a\": 1,}", "f.json:1:9: '}' does not belong here (expected a key in double quotes)"),
        ("f.json", "{\"a\": 1\n", "f.json:2:1: the text ends too early (expected `,` or `}`)"),
        ("f.json", "{\"a\" 1}", "f.json:1:6: '1' does not belong here (expected `:` after the key)"),
        ("f.json", "[1 2]", "f.json:1:4: '2' does not belong here (expected `,` or `]`)"),
        ("f.json", "[tru]", "f.json:1:2: 't' does not belong here (expected a JSON value)"),
        ("f.json", "[01]", "f.json:1:2: not a number of JSON: `01` (expected a JSON number)"),
        ("f.json", "[1e999]", "f.json:1:2: the number is beyond the range of a double: `1e999` (expected a JSON number)"),
        ("f.json", "[\"a\tb\"]", "f.json:1:4: the character '\\t' inside a string (expected its escape)"),
        ("f.json", r#"["\x"]"#, r#"f.json:1:3: an escape that JSON does not know (expected one of \" \\ \/ \b \f \n \r \t \uXXXX)"#),
        ("f.json", r#"["\ud800x"]"#, "f.json:1:3: half of a surrogate pair (expected both halves)"),
        ("f.json", "{} {}", "f.json:1:4: '{' follows the document (expected the end of the text)"),
        ("f.json", "{\"a\":1,\n \"a\":2}", "f.json:2:2: the key `a` is given twice, first at line 1 column 2"),
        ("request", "{\"a\": [1}", "request:1:9: '}' does not belong here (expected `,` or `]`)"),
        ("f", "a: 1\nb: 2\na: 3\n", "f:3:1: the key `a` is given twice, first at line 1 column 1"),
        ("f", "a: .inf", "f:1:4: the number is not finite: `.inf` (expected a finite number)"),
        ("f", "a: !thing 5", "f:1:11: the tag `!thing` does not fit here (expected no tag)"),
        ("f.yaml", "[a, b]: 1", "f.yaml:1:1: the key is a list or a map (expected a string)"),
        ("f", "a: &x [1, *x]", "f:1:11: the alias stands inside the value that it names"),
        ("f", "a: &x {k: 1}\nb:\n  <<: *x", "f:3:3: merge keys (`<<`) are not part of YAML 1.2 (expected the members written out)"),
        ("f", "a: 1\n---\nb: 2\n", "f:3:1: a second document starts here (expected one document)"),
    ] {
        assert_eq!(read(name, text), problem, "{text:?}");
    }
    assert!(read("f", "a: *nowhere").starts_with("f:1:4: not YAML: "), "{}", read("f", "a: *nowhere"));
    assert!(read("f", "a: [1, 2").starts_with("f:"), "{}", read("f", "a: [1, 2"));
    assert!(read("f", "a: 1\n b: 2").starts_with("f:2:"), "{}", read("f", "a: 1\n b: 2"));
}

#[test]
fn budgets_are_named() {
    let deep = "[".repeat(33) + &"]".repeat(33);
    assert_eq!(read("f.json", &deep), "f.json:1:33: the text nests deeper than NESTING_MAX (expected at most 32 levels)");
    assert_eq!(read("f.yaml", &deep).split_once(": ").unwrap().1, "the text nests deeper than NESTING_MAX (expected at most 32 levels)");
    assert!(parse_document("f.yaml", &deep[1..65]).is_ok());
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_string();
    for i in 1..10 {
        laughs += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(","));
    }
    assert!(
        read("f", &laughs).ends_with("the aliases copy more values than ALIAS_NODES_MAX (expected at most 100000 copied values)"),
        "{}",
        read("f", &laughs)
    );
    let mut nest = "a0: &a0 [[[[x]]]]\n".to_string();
    for i in 1..10 {
        nest += &format!("a{i}: &a{i} [[[[*a{}]]]]\n", i - 1);
    }
    assert!(read("f", &nest).ends_with("the text nests deeper than NESTING_MAX (expected at most 32 levels)"));
    let many = "---\na: 1\n".repeat(DOCUMENTS_MAX + 1);
    assert!(parse_documents("f", &many).unwrap_err().to_string().contains("DOCUMENTS_MAX"));
    let large = " ".repeat(DOCUMENT_BYTES_MAX + 1);
    assert_eq!(read("f", &large), "f: the text has 67108865 bytes, more than DOCUMENT_BYTES_MAX (expected at most 67108864 bytes)");
}

#[test]
fn several_documents_in_one_stream() {
    let documents = parse_documents("f", "---\na: 1\n---\n# nothing here\n---\nb: 2\n...\n").unwrap();
    let texts: Vec<String> = documents.iter().map(|d| d.root.to_json().to_string()).collect();
    assert_eq!(texts, [r#"{"a":1}"#, r#"{"b":2}"#]);
    assert_eq!(documents[1].root.at.line, 6);
}

#[test]
fn a_cursor_reports_every_wrong_shape_with_its_path() {
    let document = parse_document("f", "a: 1\nlist: [x, {b: no, c: 7}]\nodd key: 1\nword: onn\n").unwrap();
    let mut problems = Problems::new("f");
    let members = Cursor::root(&document.root).map(&mut problems, &["a", "list", "word", "gone"]).unwrap();
    members.get("a").unwrap().string(&mut problems);
    let items = members.get("list").unwrap().list(&mut problems).unwrap();
    items[0].any_map(&mut problems);
    let inner = items[1].map(&mut problems, &["b", "c"]).unwrap();
    inner.get("b").unwrap().bool(&mut problems);
    inner.get("c").unwrap().integer(&mut problems, 0, 5);
    inner.get("c").unwrap().float(&mut problems, 0.0, 0.5);
    inner.alias(&mut problems, &["b", "c"]);
    members.get("word").unwrap().word(&mut problems, &["on", "off"]);
    members.required(&mut problems, "gone");
    let texts: Vec<String> = problems.into_sorted().iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "f:1:1: `gone` is missing",
            "f:1:4: a: found a number (expected a string)",
            "f:2:8: list[0]: found a string (expected a map)",
            "f:2:15: list[1].b: found a string (expected true or false)",
            "f:2:19: list[1].c: `b` and `c` are two names of one thing (expected one of them)",
            "f:2:22: list[1].c: found 7 (expected a whole number from 0 to 5)",
            "f:2:22: list[1].c: found 7 (expected a number from 0 to 0.5)",
            "f:3:1: [\"odd key\"]: unknown key `odd key` (expected one of a, list, word, gone)",
            "f:4:7: word: unknown word `onn`, did you mean `on`? (expected one of on, off)",
        ]
    );
}
