//! The label sets. Each value is one of a list that the code or the configuration ends: no client
//! and no facilitator can add a series.

use prometheus_client::encoding::EncodeLabelSet;

/// A response.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Response {
    pub(super) route: String,
    pub(super) method: &'static str,
    pub(super) status: u16,
    pub(super) tier: String,
}

/// The requests of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Route {
    pub(super) route: String,
    pub(super) method: &'static str,
}

/// An error code of the API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Code {
    pub(super) code: &'static str,
}

/// A move of a payment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Moved {
    pub(super) state: &'static str,
    pub(super) facilitator: &'static str,
    pub(super) network: &'static str,
}

/// A refusal of a facilitator.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Refused {
    pub(super) facilitator: &'static str,
    pub(super) call: &'static str,
    pub(super) code: &'static str,
}

/// Money that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Money {
    pub(super) tier: String,
    pub(super) network: &'static str,
    pub(super) asset: String,
}

/// A call to a facilitator or a node: its host, the call, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Ended {
    pub(super) host: String,
    pub(super) call: &'static str,
    pub(super) outcome: &'static str,
}

/// The calls to a facilitator or a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Host {
    pub(super) host: String,
    pub(super) call: &'static str,
}

/// Uploads of a tier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Tier {
    pub(super) tier: String,
}

/// An operation of the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Operation {
    pub(super) operation: &'static str,
}

/// Statements of the database: the file of `src/db` that holds them, and whether they read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Statement {
    pub(super) module: &'static str,
    pub(super) kind: &'static str,
}

/// How something ended, or whether something was found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Outcome {
    pub(super) outcome: &'static str,
}

/// The build.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Build {
    pub(super) version: &'static str,
    pub(super) database: &'static str,
    pub(super) store: &'static str,
}
