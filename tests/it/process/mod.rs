//! The binary, as an operator runs it.

mod binary;
mod commands;
mod configuration;
mod dev;
mod files;
mod full_disk;
mod killed;
mod logs;
mod no_room;
mod pasted;
mod people;
mod refused;
mod settings;
mod start;
mod stop;
mod telemetry;
mod tour;
mod wrong_server;
