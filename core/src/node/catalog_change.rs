//! A change of the catalog, or of the trial beside it, as a client asks for it: not yet checked.

use std::sync::Arc;

use distric_model::Namespace;

use super::meta::TrialMode;

/// A change of the catalog as a client asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogChangeRequest {
    /// Whose catalog.
    pub namespace: Namespace,
    /// The change.
    pub change: RequestedChange,
    /// Refused unless the catalog has this version.
    pub if_match: Option<u64>,
    /// Check and plan only.
    pub dry_run: bool,
    /// Who asks.
    pub author: Option<Arc<str>>,
    /// Why.
    pub reason: Option<Arc<str>>,
}

/// The kinds of change.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestedChange {
    /// Whole sets, each with the name of its source; `None` keeps what is there.
    Apply {
        /// Rules.
        rules: Option<SourceText>,
        /// Workflows.
        workflows: Option<SourceText>,
    },
    /// One rule.
    PutRule {
        /// Its id; must be the one in the body.
        id: Option<String>,
        /// The rule.
        body: SourceText,
    },
    /// One rule fewer.
    DeleteRule {
        /// Its id.
        id: String,
    },
    /// One or more workflows.
    PutWorkflow {
        /// Its id, when only this one may be in the body.
        id: Option<String>,
        /// The definition.
        body: SourceText,
    },
    /// One rule enabled or disabled.
    SwitchRule {
        /// Its id.
        id: String,
        /// Whether it shall take part.
        enabled: bool,
    },
    /// Everything as it was at a version that is still kept.
    Rollback {
        /// The version.
        version: u64,
    },
    /// A candidate put beside the catalog.
    StartTrial {
        /// What it is there for.
        mode: TrialMode,
        /// For which share of the messages, in hundredths of a percent.
        share: u32,
        /// Its rules.
        rules: SourceText,
    },
    /// The candidate made the catalog.
    PromoteTrial {
        /// Which one; whichever runs when absent.
        version: Option<u64>,
    },
    /// Another share for the candidate.
    SetTrial {
        /// Which one; whichever runs when absent.
        version: Option<u64>,
        /// Hundredths of a percent.
        share: u32,
    },
    /// The candidate taken away.
    EndTrial {
        /// Which one; whichever runs when absent.
        version: Option<u64>,
    },
    /// One workflow retired.
    DeleteWorkflow {
        /// Its id.
        id: String,
    },
}

/// A text and the name under which its problems are reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// A file's name, or what the request calls it.
    pub name: String,
    /// YAML or JSON.
    pub text: String,
}
