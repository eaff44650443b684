//! Every value of every setting works, or is refused with an error that names the setting.

use std::fs;

use futures_util::future::join_all;
use keyward::internals::clock::Clock;
use keyward::internals::config::{Config, Layers};
use keyward::internals::server::Server;
use tempfile::TempDir;

/// Values that an operator could write, but that few settings accept.
const ODD: [&str; 58] = [
    "",
    " ",
    "-1",
    "0",
    "-0",
    "1",
    "2",
    "0.5",
    "1e9",
    "+5",
    "0x10",
    "1_000",
    "99999999999999999999999",
    "18446744073709551615",
    "4294967296",
    "1000000",
    "0s",
    "-5s",
    "1ns",
    "1ms",
    "366d",
    "367d",
    "999999999999h",
    "4294967295d",
    "1y",
    "soon",
    "NaN",
    "inf",
    "true",
    "yes",
    "null",
    "none",
    "never",
    "[]",
    "{}",
    "a\nb",
    "a\tb",
    "a\0b",
    "\u{e9}",
    "\u{202e}",
    "%",
    "://",
    "http://",
    "https://",
    "https://:443",
    "https://user:pw@id.test",
    "https://id.test:99999",
    "https://id.test:0",
    "https://id.test?x=1",
    "https://id.test#x",
    "https://id.test/../x",
    "https://id.test//x",
    "https://id.test/.well-known/oauth-authorization-server",
    "https://[::1",
    "https://id test",
    "localhost:80",
    "127.0.0.1:99999",
    "0.0.0.0/33",
];

/// Settings that name a file or directory. Other tests cover them.
const PLACES: [&str; 4] =
    ["data_dir", "master_key_file", "additional_master_key_file", "outbound.ca_file"];

fn keys() -> Vec<&'static str> {
    let config = Config::read(Layers::default()).unwrap();
    config.settings.into_iter().map(|setting| setting.key).collect()
}

/// The values that a setting accepts. Asserts that the error for any other value names the setting.
fn taken(key: &'static str) -> Vec<&'static str> {
    let long: &'static str = "x".repeat(100_000).leak();
    let read = |value: &str| Config::read(Layers::default().with_flag(key, "test", Some(value)));
    let is_taken = |value: &&str| match read(value) {
        Ok(_) => true,
        Err(faults) => {
            let words = faults.to_string();
            assert!(words.contains(key), "{key} = {value:?}: {words}");
            false
        }
    };
    ODD.into_iter().chain([long]).filter(is_taken).collect()
}

async fn starts(key: &'static str, value: &'static str) {
    let folder = TempDir::new().unwrap();
    let mut layers = Layers::default();
    for face in ["grpc.listen", "http.listen", "ops.listen"] {
        layers = layers.with_flag(face, "test", Some("127.0.0.1:0"));
    }
    let layers = layers.with_flag("data_dir", "test", Some(folder.path().display()));
    let config = Config::read(layers.with_flag(key, "test", Some(value))).unwrap();
    let server = Server::start(&config, Clock::system()).await;
    let server = server.unwrap_or_else(|error| panic!("{key} = {value:?}: {error}"));
    let ready = format!("http://{}/livez", server.ops);
    assert_eq!(reqwest::get(ready).await.unwrap().status(), 200, "{key} = {value:?}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_setting_value_is_refused_with_key_or_works() {
    let keys = keys().into_iter().filter(|key| !PLACES.contains(key));
    // Whether this timeout is long enough depends on the machine.
    let starts_with = |value: &&str| *value != "1ms";
    let of = |key| taken(key).into_iter().filter(starts_with).map(move |value| (key, value));
    let all: Vec<_> = keys.flat_map(of).collect();
    for some in all.chunks(4) {
        join_all(some.iter().map(|(key, value)| starts(key, value))).await;
    }
    let count = all.len();
    assert!(count > 40, "{count} values were tried");
}

#[test]
fn setting_of_wrong_type_is_refused_with_key_or_read() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("keyward.toml");
    for key in keys() {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        let section = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
        for value in ["[1, 2]", "{ a = 1 }", "1979-05-27", "0.1", "nan", "true", "-1", "\"\""] {
            fs::write(&file, format!("{section}{name} = {value}\n")).unwrap();
            let read = Layers::default().with_file(&file).and_then(Config::read);
            if let Err(faults) = read {
                assert!(faults.to_string().contains(key), "{key} = {value}: {faults}");
            }
        }
    }
    fs::write(&file, "[telemetry]\ntrace_sampling = 0.25\naccess_log = true\n").unwrap();
    let config = Layers::default().with_file(&file).and_then(Config::read).unwrap();
    assert!(config.telemetry.access_log, "a TOML boolean works like a string");
}

#[test]
fn setting_that_is_not_utf8_is_refused() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(b"/tmp/\xff".to_vec());
    let variables = [(OsString::from("KEYWARD_DATA_DIR"), odd)];
    let faults = Config::read(Layers::default().with_environment(variables.into_iter()));
    assert!(faults.unwrap_err().to_string().contains("data_dir is not UTF-8"));
}
