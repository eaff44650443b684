//! Request paths, path templates and the choice of an endpoint rule.

use keyward::internals::domain::request_path::PathFault;
use keyward::internals::domain::{
    Endpoint, Endpoints, HttpMethod, NeededScopes, PathTemplate, RequestPath,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::cases;

/// Paths from parts that parsers disagree about.
fn dangerous_path() -> impl Strategy<Value = String> {
    const PARTS: [&str; 20] = [
        "a", ".", "/", "%", "2", "e", "f", "5", "c", "ä", "%2e", "%2f", "%25", "%5c", "\\", "；",
        "?", "#", "%00", "%c3%a4",
    ];
    vec(select(&PARTS[..]), 0..10).prop_map(|parts| format!("/{}", parts.concat()))
}

/// A segment of a template: few literals, so that templates overlap.
fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        select(&["v1", "calls", "Calls", "x"][..]).prop_map(str::to_owned),
        Just("{}".to_owned())
    ]
}

/// A template: `{}` becomes `{p0}`, `{p1}`…
fn template() -> impl Strategy<Value = String> {
    (vec(segment(), 0..4), any::<bool>()).prop_map(|(segments, open)| {
        let numbered = segments.iter().enumerate();
        let numbered = numbered.map(|(n, segment)| segment.replace("{}", &format!("{{p{n}}}")));
        let all: Vec<_> = numbered.chain(open.then(|| "**".to_owned())).collect();
        format!("/{}", all.join("/"))
    })
}

fn rule(method: &str, path: &str) -> Endpoint {
    Endpoint {
        method: HttpMethod::parse(method).unwrap(),
        path: PathTemplate::parse(path).unwrap(),
        needs: NeededScopes::default(),
        limits: None,
        description: String::new(),
    }
}

/// The rules that can be in one set, in this order.
fn endpoints<'a>(rules: impl Iterator<Item = &'a (&'static str, String)>) -> Endpoints {
    let mut endpoints = Endpoints::default();
    for (method, path) in rules {
        endpoints.insert(rule(method, path)).ok();
    }
    endpoints
}

proptest! {
    #![proptest_config(cases(4096))]

    #[test]
    fn accepted_path_is_the_same_when_decoded_twice(raw in dangerous_path()) {
        // A backend behind a proxy that also decodes must get the same path, or a broken escape.
        if let Ok(path) = RequestPath::parse(&raw) {
            let decoded = format!("/{}", path.segments().collect::<Vec<_>>().join("/"));
            match RequestPath::parse(&decoded) {
                Ok(again) => prop_assert_eq!(again, path),
                Err(fault) => prop_assert_eq!(fault, PathFault::BrokenEscape),
            }
        }
    }

    #[test]
    fn accepted_path_has_no_segment_that_leads_elsewhere(
        raw in prop_oneof![dangerous_path(), any::<String>()],
    ) {
        if let Ok(path) = RequestPath::parse(&raw) {
            for segment in path.segments() {
                prop_assert!(!segment.is_empty() && segment != "." && segment != "..");
                prop_assert!(!segment.contains(['/', '\\', ';', '\0', '#', '?']));
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn accepted_template_has_one_spelling(text in prop_oneof![template(), any::<String>()]) {
        if let Ok(template) = PathTemplate::parse(&text) {
            prop_assert_eq!(template.as_str(), &text);
        }
    }

    #[test]
    fn request_filled_into_a_template_matches_it(
        template in template(), value in "[a-z0-9]{1,9}", escaped in any::<bool>(),
    ) {
        let rules = Endpoints::new([rule("GET", &template)]).unwrap();
        let value = if escaped {
            let escapes: Vec<_> = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
            escapes.concat()
        } else {
            value
        };
        let segments = template.split('/').map(|segment| match segment {
            open if open == "**" || open.starts_with('{') => value.as_str(),
            literal => literal,
        });
        let path = segments.collect::<Vec<_>>().join("/");
        let path = RequestPath::parse(&path).unwrap();
        prop_assert!(rules.find("GET", &path).is_some());
        prop_assert!(rules.find("POST", &path).is_none());
        prop_assert!(rules.find("get", &path).is_none());
    }

    #[test]
    fn order_of_rules_does_not_change_which_one_applies(
        rules in vec((select(&["GET", "POST", "*"][..]), template()), 1..8),
        path in vec(select(&["v1", "calls", "Calls", "CALLS", "x", "y", "7"][..]), 0..5),
    ) {
        // Of templates that match the same requests, one is chosen before.
        let mut chosen: Vec<(&'static str, String)> = Vec::new();
        for one in rules {
            let with = endpoints(chosen.iter().chain([&one])).iter().count();
            if with > chosen.len() {
                chosen.push(one);
            }
        }
        let (forth, back) = (endpoints(chosen.iter()), endpoints(chosen.iter().rev()));
        let path = format!("/{}", path.join("/"));
        let path = RequestPath::parse(&path).unwrap();
        for method in ["GET", "POST", "DELETE"] {
            prop_assert_eq!(forth.find(method, &path), back.find(method, &path));
        }
    }
}
