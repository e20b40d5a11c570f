//! Rule sets that were read before: a change costs what it changes, not what there is.
//!
//! In: the catalog as text.  Out: rule sets and compiled rules, with everything shared that did not change.
//! May touch: `rules`, `model`.  Never: clocks, files, sockets.
//! Lives on: the compiler thread.
//! Invariant: what comes out is what reading the whole text anew would give. Checked by the test below.

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_model::Namespace;
use distric_rules::{Alone, Catalog, CheckContext, Hands, Problem, RuleSet, check_rule};

use super::meta::NamespaceSource;

/// When more than one rule in this many is new, the whole set is read again.
const READ_AGAIN_SHARE: usize = 4;

/// The last rule set of each namespace.
#[derive(Debug)]
pub struct RuleSets {
    hands: Box<dyn Hands + Send>,
    kept: BTreeMap<Namespace, Kept>,
    /// The candidate on trial, and its version.
    trial: Option<(u64, Catalog)>,
}

#[derive(Debug)]
struct Kept {
    options: Arc<str>,
    bodies: BTreeMap<Arc<str>, Arc<str>>,
    set: RuleSet,
    /// The set as it was last compiled.
    compiled: Option<Catalog>,
    /// Whether it was this set.
    is_compiled: bool,
}

impl Default for RuleSets {
    fn default() -> Self {
        Self::with(Box::new(Alone))
    }
}

impl RuleSets {
    /// None yet. `hands` read and compile them.
    pub fn with(hands: Box<dyn Hands + Send>) -> Self {
        Self { hands, kept: BTreeMap::new(), trial: None }
    }

    /// Whoever reads and compiles.
    pub fn hands(&self) -> &dyn Hands {
        &*self.hands
    }

    /// The rule set of a namespace. Only rules that differ from those asked for the last time are read.
    ///
    /// Errors: every problem, when the text is not one that this version reads.
    pub fn set(&mut self, namespace: &Namespace, source: &NamespaceSource) -> Result<RuleSet, Vec<Problem>> {
        self.refresh(namespace, source).map(|(kept, _)| kept.set.clone())
    }

    /// The compiled rules of a namespace as this version of the catalog. Errors: as [`Self::set`], and what only compiling finds.
    pub fn compiled(&mut self, namespace: &Namespace, source: &NamespaceSource, version: u64) -> Result<Catalog, Vec<Problem>> {
        let (kept, hands) = self.refresh(namespace, source)?;
        let compiled = match &kept.compiled {
            Some(compiled) if kept.is_compiled => compiled.at_version(version),
            Some(before) => before.recompile_with(hands, version, &kept.set)?,
            None => Catalog::compile_with(hands, version, &kept.set)?,
        };
        kept.compiled = Some(compiled.at_version(version));
        kept.is_compiled = true;
        Ok(compiled)
    }

    /// Rules that are compiled in layers, for somebody with time to compile them at once.
    pub fn layered(&self) -> Option<(Namespace, RuleSet)> {
        let layered = |kept: &&Kept| kept.compiled.as_ref().is_some_and(Catalog::is_layered);
        self.kept.iter().find(|(_, kept)| layered(kept)).map(|(namespace, kept)| (namespace.clone(), kept.set.clone()))
    }

    /// What [`Self::layered`] gave, compiled at once. The rules may have changed meanwhile: then the changes are laid over it.
    pub fn settle(&mut self, namespace: &Namespace, whole: Catalog) {
        if let Some(kept) = self.kept.get_mut(namespace) {
            kept.compiled = Some(whole);
            kept.is_compiled = false;
        }
    }

    /// The compiled rules of a candidate, which never change under its version. Errors: as [`Self::compiled`].
    pub fn trial(&mut self, source: &NamespaceSource, version: u64) -> Result<Catalog, Vec<Problem>> {
        if let Some((_, compiled)) = self.trial.as_ref().filter(|(known, _)| *known == version) {
            return Ok(compiled.at_version(version));
        }
        let compiled = Catalog::compile_with(&*self.hands, version, &Kept::whole(&*self.hands, source)?.set)?;
        self.trial = Some((version, compiled.at_version(version)));
        Ok(compiled)
    }

    /// Forgets the candidate.
    pub fn end_trial(&mut self) {
        self.trial = None;
    }

    /// Forgets namespaces that there are no more.
    pub fn retain(&mut self, namespaces: &BTreeMap<Namespace, NamespaceSource>) {
        self.kept.retain(|namespace, _| namespaces.contains_key(namespace));
    }

    fn refresh(&mut self, namespace: &Namespace, source: &NamespaceSource) -> Result<(&mut Kept, &dyn Hands), Vec<Problem>> {
        let hands = &*self.hands;
        let kept = self.kept.remove(namespace).filter(|kept| kept.options == source.options);
        let kept = match kept {
            Some(kept) => kept.changed_to(hands, source)?,
            None => Kept::whole(hands, source)?,
        };
        Ok((self.kept.entry(namespace.clone()).or_insert(kept), hands))
    }
}

impl Kept {
    fn whole(hands: &dyn Hands, source: &NamespaceSource) -> Result<Self, Vec<Problem>> {
        let texts: Vec<&str> = source.rules.values().map(|rule| &*rule.body).collect();
        let set = match RuleSet::from_parts(hands, &source.options, &texts) {
            Some(set) => set,
            None => Self::read_at_once(source)?,
        };
        let bodies = source.rules.iter().map(|(id, rule)| (id.clone(), rule.body.clone())).collect();
        Ok(Self { options: source.options.clone(), bodies, set, compiled: None, is_compiled: false })
    }

    /// Reads everything as one document, which says of every problem where it is in that.
    fn read_at_once(source: &NamespaceSource) -> Result<RuleSet, Vec<Problem>> {
        let document = serde_json::from_str(&source.rules_document()).map_err(|error| {
            let message = format!("the stored rules are not readable: {error}");
            vec![Problem::error("catalog", distric_rules::document::Position::default(), "", message, None)]
        })?;
        RuleSet::from_json(&document)
    }

    fn changed_to(mut self, hands: &dyn Hands, source: &NamespaceSource) -> Result<Self, Vec<Problem>> {
        let removed: Vec<Arc<str>> = self.bodies.keys().filter(|id| !source.rules.contains_key(*id)).cloned().collect();
        let is_known = |id: &Arc<str>, body: &Arc<str>| self.bodies.get(id).is_some_and(|known| Arc::ptr_eq(known, body) || known == body);
        let changed: Vec<(&Arc<str>, &Arc<str>)> =
            source.rules.iter().map(|(id, rule)| (id, &rule.body)).filter(|(id, body)| !is_known(id, body)).collect();
        if removed.is_empty() && changed.is_empty() {
            return Ok(self);
        }
        if changed.len() * READ_AGAIN_SHARE > source.rules.len() {
            return Self::whole(hands, source);
        }
        let rules = changed.iter().map(|(_, body)| check_rule("catalog", body)).collect::<Result<Vec<_>, _>>()?;
        let checked = self.set.patched(rules, removed.iter().map(|id| &**id), &CheckContext::default());
        self.set = checked.catalog.ok_or(checked.problems)?;
        self.is_compiled = false;
        for id in &removed {
            self.bodies.remove(id);
        }
        self.bodies.extend(changed.into_iter().map(|(id, body)| (id.clone(), body.clone())));
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use distric_rules::Envelope;

    use super::*;
    use crate::node::meta::RuleRecord;

    fn put(source: &mut NamespaceSource, id: &str, threshold: u64) {
        let body = format!(r#"{{"id":"{id}","conditions":[{{"field":"n","operator":"greater_than","value":{threshold}}}]}}"#);
        let record = RuleRecord { version: 1, created_at_us: Default::default(), updated_at_us: Default::default(), body: Arc::from(body) };
        source.rules.insert(Arc::from(id), record);
    }

    #[test]
    fn a_set_that_followed_changes_is_the_set_read_anew() {
        let namespace = Namespace::default();
        let mut source = NamespaceSource::default();
        let mut sets = RuleSets::default();
        let mut draw = 1_u64;
        for version in 1..=200 {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = format!("r{}", (draw >> 33) % 40);
            match draw >> 60 {
                0..=2 => drop(source.rules.remove(id.as_str())),
                3 => source.options = Arc::from(if version % 2 == 0 { "{}" } else { r#"{"fail_fast":true}"# }),
                4 => {}
                _ => put(&mut source, &id, (draw >> 40) % 50),
            }
            let anew = Kept::whole(&Alone, &source).unwrap();
            assert_eq!(sets.set(&namespace, &source).unwrap().to_json(), anew.set.to_json());
            let compiled = sets.compiled(&namespace, &source, version).unwrap();
            assert_eq!(compiled.version(), version);
            for n in [0, 7, 25, 60] {
                let message = serde_json::json!({ "n": n });
                let found = compiled.decide_value(&Envelope::default(), &message).rules;
                assert_eq!(found, Catalog::compile(version, &anew.set).unwrap().decide_value(&Envelope::default(), &message).rules);
            }
        }
    }

    #[test]
    fn what_is_read_rule_by_rule_is_what_is_read_at_once() {
        let mut source = NamespaceSource { options: Arc::from(r#"{"fail_fast":true,"lookups":{"risk":{"GB":1}}}"#), ..Default::default() };
        (0..40).for_each(|n| put(&mut source, &format!("r{n}"), n));
        let record = source.rules["r3"].clone();
        let mut put_body = |id: &str, body: &str| {
            source.rules.insert(Arc::from(id), RuleRecord { body: Arc::from(body), ..record.clone() });
        };
        let transform = r#"[{"lookup":"country","in":"risk","to":"x"}]"#;
        put_body("looks-up", &format!(r#"{{"id":"looks-up","conditions":[],"after":["r7"],"transform":{transform}}}"#));
        put_body(
            "text",
            r#"{"id":"text","description":"a\n\u00e4\"","conditions":{"not":{"field":"a b","op":"in","value":[-0.0,1e300,null]}}}"#,
        );
        let (read, at_once) = (Kept::whole(&Alone, &source).unwrap().set, Kept::read_at_once(&source).unwrap());
        assert_eq!(read.to_json(), at_once.to_json());
        assert_eq!(read.len(), 42);
        // Whatever is found wrong later has the same place, too.
        let mut without_workflows = CheckContext::default();
        let none = std::collections::BTreeSet::new();
        without_workflows.known_workflows = Some(&none);
        let starts = r#"{"id":"r5","conditions":[],"actions":[{"workflow":"w"}]}"#;
        source.rules.insert(Arc::from("r5"), RuleRecord { body: Arc::from(starts), ..record });
        let problems = |set: RuleSet| set.patched(Vec::new(), [], &without_workflows).problems;
        let read = problems(Kept::whole(&Alone, &source).unwrap().set);
        assert_eq!(read, problems(Kept::read_at_once(&source).unwrap()));
        assert_eq!(read[0].to_string(), "catalog: rules[36].actions[0].workflow: unknown workflow `w` (expected a workflow that exists)");
    }

    #[test]
    fn what_is_wrong_has_its_place_in_the_whole() {
        let wrong: [(&str, &str, &str); 5] = [
            (
                "{}",
                r#"{"id":"r3","conditions":[{"field":"n","operator":"later"}]}"#,
                "catalog: rules[3].conditions[0].operator: unknown operator",
            ),
            ("{}", r#"{"id":"r3","conditions":[],"after":["r77"]}"#, "catalog: rules[3].after[0]: unknown rule `r77`"),
            ("{}", r#"{"id":"r4","conditions":[]}"#, "catalog: rules[4].id: the id `r4` is given twice, first in rules[3]"),
            ("{}", r#"{"id":"r3","conditions":[]"#, "catalog: the stored rules are not readable: "),
            (r#"{"fail_fast":1}"#, r#"{"id":"r3","conditions":[]}"#, "catalog: fail_fast: found a number"),
        ];
        for (options, body, expected) in wrong {
            let mut source = NamespaceSource { options: Arc::from(options), ..Default::default() };
            (0..9).for_each(|n| put(&mut source, &format!("r{n}"), n));
            source.rules.insert(Arc::from("r3"), RuleRecord { body: Arc::from(body), ..source.rules["r3"].clone() });
            let problems = Kept::whole(&Alone, &source).unwrap_err();
            assert!(problems[0].to_string().starts_with(expected), "{}", problems[0]);
            assert_eq!(problems, Kept::read_at_once(&source).unwrap_err());
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_is_forgotten() {
        let namespace = Namespace::default();
        let mut source = NamespaceSource::default();
        (0..9).for_each(|n| put(&mut source, &format!("r{n}"), n));
        let mut sets = RuleSets::default();
        sets.set(&namespace, &source).unwrap();
        let good = source.clone();
        let unreadable =
            RuleRecord { body: Arc::from(r#"{"id":"r3","conditions":[{"field":"n","operator":"later"}]}"#), ..source.rules["r3"].clone() };
        source.rules.insert(Arc::from("r3"), unreadable);
        assert!(sets.compiled(&namespace, &source, 2).is_err());
        assert_eq!(sets.set(&namespace, &good).unwrap().len(), 9);
    }
}
