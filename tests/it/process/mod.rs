//! The binary, as an operator runs it.

mod binary;
mod commands;
mod configuration;
mod dev;
mod killed;
mod people;
mod start;
mod telemetry;
