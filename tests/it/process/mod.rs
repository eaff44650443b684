//! The binary, as an operator runs it.

mod backup;
mod binary;
mod commands;
mod configuration;
mod dev;
mod files;
mod forms;
mod full_disk;
mod help;
mod hints;
mod killed;
mod login;
mod logs;
mod no_room;
mod output;
mod pasted;
mod people;
mod questions;
mod refused;
mod settings;
mod start;
mod stop;
mod telemetry;
mod terminal;
mod tour;
mod wrong_server;
