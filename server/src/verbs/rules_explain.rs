//! `distric rules explain`: every condition with the value that it saw.

use std::path::Path;

use distric_rules::{Catalog, Envelope};

use crate::exit::{Exit, Failure};
use crate::output::{Output, write_line};
use crate::rule_files::rule_set;

/// Explains one message.
pub fn run(rules: &Path, message: &Path, rule: Option<&str>, event_type: Option<&str>, output: Output) -> Result<Exit, Failure> {
    let catalog = compiled(rules)?;
    if let Some(id) = rule
        && catalog.rules().rule(id).is_none()
    {
        let ids: Vec<&str> = catalog.rules().iter().map(|rule| rule.id()).collect();
        let failure = Failure::new(Exit::NotFound, format!("{} has no rule {id:?}", rules.display()));
        return Err(match distric_rules::did_you_mean(id, &ids) {
            Some(guess) => failure.with_remedy(format!("did you mean `{guess}`?")),
            None => failure,
        });
    }
    let source = if message == Path::new("-") { "-".to_owned() } else { format!("@{}", message.display()) };
    let text = crate::client::text_or_file(&source)?;
    let payload: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Failure::new(Exit::BadInput, format!("{}: not a JSON message: {error}", message.display())))?;
    let explanation = catalog.explain(&Envelope { namespace: "default", event_type, ..Envelope::default() }, &payload, rule);
    if output.json {
        write_line(&serde_json::to_string(&explanation).expect("an explanation is a tree of texts and numbers"));
    } else {
        write_line(explanation.to_string().trim_end());
    }
    Ok(Exit::Success)
}

/// Reads, checks and compiles a rule file or a directory of them. Problems are findings of a failure with exit code 7.
pub fn compiled(rules: &Path) -> Result<Catalog, Failure> {
    let name = rules.display().to_string();
    let set = rule_set(rules).map_err(|failure| failure.with_remedy(format!("distric rules check {name}")))?;
    Catalog::compile(1, &set).map_err(|problems| {
        Failure::new(Exit::BadInput, format!("{name} is not a valid rule file"))
            .with_remedy(format!("distric rules check {name}"))
            .with_findings(problems)
    })
}
