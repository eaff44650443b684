//! The binary, as an operator runs it.

mod binary;
mod commands;
mod configuration;
mod dev;
mod full_disk;
mod killed;
mod logs;
mod no_room;
mod people;
mod start;
mod stop;
mod telemetry;
