//! Export: interrupted and resumed, and verified without a server.

use std::fs;

use super::{Ran, audit, expect, seal, store, write_events};
use crate::harness::{Backend, on_both_databases};

on_both_databases!(export_is_resumed_after_the_last_whole_line);

async fn export_is_resumed_after_the_last_whole_line(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let store = store(&kw, backend).await;
    write_events(&kw, &store, "acme", 450).await;
    seal(&kw).await;
    let path = |name: &str| kw.folder().join(name).to_str().unwrap().to_owned();
    let (whole, resumed) = (path("whole.jsonl"), path("resumed.jsonl"));
    let export = async |file: &str| {
        let ran = audit(&kw, &["export", "acme", "--file", file]).await;
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    let events = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.ends_with('\n'));
        let lines = text.lines().filter(|line| line.starts_with("{\"event\":"));
        lines.map(str::to_owned).collect()
    };
    export(&whole).await;
    let lines = events(&whole);
    assert!(lines.len() > 450);
    expect(&kw, &["verify", "--file", &whole], 0, "verified").await;

    // Interrupted in the middle of a line, at its end, and before anything was written.
    let bytes = fs::read(&whole).unwrap();
    for cut in [0, 10, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&resumed, &bytes[..cut]).unwrap();
        export(&resumed).await;
        assert_eq!(events(&resumed), lines, "{cut}");
        expect(&kw, &["verify", "--file", &resumed], 0, "verified").await;
    }
    // New events are appended; heads in between stay, and fit.
    write_events(&kw, &store, "acme", 5).await;
    seal(&kw).await;
    export(&resumed).await;
    assert_eq!(events(&resumed).len(), lines.len() + 5);
    expect(&kw, &["verify", "--file", &resumed, "--head", &whole], 0, "verified").await;
    expect(&kw, &["verify", "--file", &whole, "--head", &resumed], 15, "older state").await;
    expect(&kw, &["verify", "acme", "--head", &whole], 0, "verified").await;

    // A part, from a number on.
    let Ran { code, out, .. } = audit(&kw, &["export", "acme", "--from", "440"]).await;
    assert_eq!(code, 0);
    assert!(out.starts_with("{\"start\":{\"tenant\":\"acme\",\"number\":440,"), "{out}");
    assert_eq!(out.lines().count(), lines.len() + 5 - 440 + 2);
    fs::write(&resumed, &out).unwrap();
    expect(&kw, &["verify", "--file", &resumed], 0, "that place is not signed").await;

    // A changed file.
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let text = fs::read_to_string(&whole).unwrap();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        change(&mut lines);
        fs::write(&resumed, lines.join("\n") + "\n").unwrap();
    };
    let verify = ["verify", "--file", resumed.as_str()];
    changed(&|lines| lines[99] = lines[99].replacen("detail", "Detail", 2));
    expect(&kw, &verify, 10, "event 100 was changed").await;
    changed(&|lines| drop(lines.remove(99)));
    expect(&kw, &verify, 11, "event 100 is missing").await;
    changed(&|lines| lines.swap(99, 101));
    expect(&kw, &verify, 12, "event 102 is at the place of event 100").await;
    changed(&|lines| drop(lines.drain(100..lines.len() - 1)));
    expect(&kw, &verify, 13, "the log ends at event 100").await;
    changed(&|lines| drop(lines.drain(..lines.len() - 1)));
    expect(&kw, &verify, 14, "the log is gone").await;
    changed(&|lines| {
        let last = lines.last_mut().unwrap();
        *last = last.replacen("\"number\":4", "\"number\":5", 1);
    });
    expect(&kw, &verify, 17, "wrong signature").await;
    let other = "A".repeat(43);
    let verify = ["verify", "--file", &whole, "--key", &other];
    expect(&kw, &verify, 17, "a key that is not trusted").await;

    // Mistakes are refused, and the file stays.
    changed(&|lines| "text".clone_into(&mut lines[3]));
    expect(&kw, &["export", "acme", "--file", &resumed], 1, "line 4 is not of an export").await;
    expect(&kw, &["export", "system", "--file", &whole], 1, "line 1 is of tenants/acme").await;
    expect(&kw, &["export", "acme", "--from", "9", "--file", &whole], 2, "--from").await;
    expect(&kw, &["export", "acme", "--from", "x"], 2, "must be the number of an event").await;
    expect(&kw, &["export", "acme", "--from", "99999"], 1, "CURSOR_TOO_OLD").await;
    expect(&kw, &["export", "none"], 3, "does not exist").await;
}
