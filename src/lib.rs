//! pixtoll: an image host where a payment replaces the login.
//!
//! A client uploads an image over HTTP. For a paid tier the server responds with
//! `402 Payment Required`, the client signs an x402 payment, and a facilitator verifies and settles
//! it. The server stores the image and returns a public link. It has no accounts and no cookies,
//! and it keeps no client addresses.
//!
//! Dependencies point one way: edges ([`http`], [`cli`]) → domain ([`checkout`], [`signin`], [`payments`], [`images`],
//! [`imports`], [`links`], [`apikeys`], [`retention`], [`trust`], [`accounting`], [`moving`], [`monitoring`]) → ports ([`db`],
//! [`store`], [`facilitator`], [`fetch`], [`evm`], [`cdn`]) →
//! leaves ([`model`], [`pricing`], [`x402`], [`keys`], [`system`]). `ARCHITECTURE.md` is the map,
//! and a test checks the directions.

pub mod accounting;
pub mod apikeys;
pub mod app;
pub mod catalog;
pub mod cdn;
pub mod checkout;
pub mod cli;
pub mod client;
pub mod config;
pub mod db;
pub mod evm;
pub mod facilitator;
pub mod fetch;
pub mod http;
pub mod images;
pub mod imports;
pub mod keys;
pub mod limits;
pub mod links;
pub mod mcp;
pub mod model;
pub mod monitoring;
pub mod moving;
pub mod payments;
pub mod pricing;
pub mod receipts;
pub mod retention;
pub mod sandbox;
pub mod signin;
pub mod store;
pub mod system;
pub mod trust;
pub mod x402;
