//! Endpoints of the platform's own API: which scopes a request needs, by rules.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::fields::Fault;
use super::folding::fold;
use super::{Limits, NeededScopes, RequestPath, TenantId};

/// A rule: what requests with this method to such paths need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The paths.
    pub path: PathTemplate,
    /// The scopes that they need; one without any lets every good token.
    pub needs: NeededScopes,
    /// How often such requests may be made.
    pub limits: Option<Limits>,
    /// What it is for.
    pub description: String,
}

impl Endpoint {
    /// Its resource name: `tenants/acme/endpoints/GET /v1/calls/{id}`.
    pub fn name(&self, tenant: &TenantId) -> String {
        format!("{}/endpoints/{} {}", tenant.name(), self.method, self.path)
    }
}

/// The method of a rule: one, or any. Methods are what they are letter by letter: `get` is
/// not `GET`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Method(String);

impl Method {
    const ANY: &'static str = "*";

    /// Reads a method, or `*`.
    pub fn parse(value: &str) -> Result<Self, Fault> {
        if value == Self::ANY || is_method(value) {
            Ok(Self(value.to_owned()))
        } else {
            Err(Fault::new("must be a method as GET (1 to 32 of A-Z 0-9 - _), or * for any"))
        }
    }

    /// The method as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_method(value: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=32).contains(&value.len()) && value.bytes().all(allowed)
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The paths of a rule: `/v1/calls/{id}/notes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// This one.
    Literal(String),
    /// `{name}`: any one.
    One,
    /// `**`: one or more, at the end.
    Rest,
}

impl PathTemplate {
    const MOST_BYTES: usize = 512;
    const MOST_SEGMENTS: usize = 32;

    /// Reads a template.
    pub fn parse(value: &str) -> Result<Self, Fault> {
        if value.len() > Self::MOST_BYTES {
            return Err(Fault::new(format!("must have at most {} bytes", Self::MOST_BYTES)));
        }
        let rest = value.strip_prefix('/').ok_or_else(|| Fault::new("must begin with a slash"))?;
        let parts: Vec<_> = if rest.is_empty() { Vec::new() } else { rest.split('/').collect() };
        if parts.len() > Self::MOST_SEGMENTS {
            let most = Self::MOST_SEGMENTS;
            return Err(Fault::new(format!("must have at most {most} segments")));
        }
        let mut names = BTreeSet::new();
        let mut segments = Vec::with_capacity(parts.len());
        for part in parts {
            if segments.last() == Some(&Segment::Rest) {
                return Err(Fault::new("must have ** at its end only"));
            }
            let segment = segment(part)?;
            if segment == Segment::One && !names.insert(part) {
                return Err(Fault::new(format!("has {part} twice")));
            }
            segments.push(segment);
        }
        Ok(Self { text: value.to_owned(), segments })
    }

    /// The template as it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn segment(part: &str) -> Result<Segment, Fault> {
    if part == "**" {
        return Ok(Segment::Rest);
    }
    if let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        return if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
            Ok(Segment::One)
        } else {
            Err(Fault::new("must have names of 1 to 64 of A-Z a-z 0-9 _ in braces"))
        };
    }
    // Decoded, so that there is one way to write it; and nothing that a request cannot have.
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&b);
    let dots = part.bytes().all(|b| b == b'.');
    if part.bytes().all(allowed) && !dots {
        Ok(Segment::Literal(part.to_owned()))
    } else {
        Err(Fault::new(
            "must have segments of A-Z a-z 0-9 - . _ ~ ! $ & ' ( ) + , = : @ (and not of dots \
             alone), {name} for any one, or at the end ** for one or more",
        ))
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The rules of a tenant, no two of which mean the same requests.
#[derive(Clone, Debug)]
pub struct Endpoints {
    rules: Vec<Endpoint>,
    /// A tree by segments; the first is its root.
    nodes: Vec<Node>,
}

/// Where the rules are whose templates begin alike.
#[derive(Clone, Debug, Default)]
struct Node {
    /// By what backends may compare: the segments themselves, and where each leads.
    literals: BTreeMap<String, Vec<(String, usize)>>,
    /// Where any one segment leads.
    one: Option<usize>,
    /// The rules that end here, by method.
    here: BTreeMap<String, usize>,
    /// The rules that end here with `**`, by method.
    rest: BTreeMap<String, usize>,
}

/// A rule that was found.
#[derive(Clone, Copy)]
struct Hit {
    rule: usize,
    /// Whether each literal segment is exactly what was asked for.
    exact: bool,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self { rules: Vec::new(), nodes: vec![Node::default()] }
    }
}

impl Endpoints {
    /// All of these rules.
    pub fn new(rules: impl IntoIterator<Item = Endpoint>) -> Result<Self, Fault> {
        let mut endpoints = Self::default();
        rules.into_iter().try_for_each(|rule| endpoints.insert(rule))?;
        Ok(endpoints)
    }

    /// Adds a rule; refuses one that means the same requests as one there is.
    pub fn insert(&mut self, rule: Endpoint) -> Result<(), Fault> {
        let (mut at, mut ends_open) = (0, false);
        for segment in &rule.path.segments {
            let fresh = self.nodes.len();
            let node = &mut self.nodes[at];
            at = match segment {
                Segment::Rest => {
                    ends_open = true;
                    break;
                }
                Segment::One => *node.one.get_or_insert(fresh),
                Segment::Literal(text) => {
                    let alike = node.literals.entry(folded(text).into_owned()).or_default();
                    if let Some((_, known)) = alike.iter().find(|(literal, _)| literal == text) {
                        *known
                    } else {
                        alike.push((text.clone(), fresh));
                        fresh
                    }
                }
            };
            if at == fresh {
                self.nodes.push(Node::default());
            }
        }
        let node = &mut self.nodes[at];
        let by_method = if ends_open { &mut node.rest } else { &mut node.here };
        if let Some(same) = by_method.get(rule.method.as_str()) {
            let Endpoint { method, path, .. } = &self.rules[*same];
            return Err(Fault::new(format!("means the same as {method} {path}")));
        }
        by_method.insert(rule.method.as_str().to_owned(), self.rules.len());
        self.rules.push(rule);
        Ok(())
    }

    /// The rules, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.rules.iter()
    }

    /// The rule for a request: of those that mean it, the most special one. From the left,
    /// segment by segment, a literal goes before `{name}` and that before `**`; of two with
    /// the same path, one method goes before `*`.
    ///
    /// There is none for a method that no rule could name, so that `get` does not get past a
    /// rule for `GET` by one for `*`. Neither is there one for a path that a backend which
    /// does not care for case (or width, or dots and spaces at the end) would take for
    /// another rule's: `/v1/Export` where there is `/v1/export` beside `/v1/{id}`.
    pub fn find(&self, method: &str, path: &RequestPath<'_>) -> Option<&Endpoint> {
        if !is_method(method) {
            return None;
        }
        let segments: Vec<_> = path.segments().map(|text| (text, folded(text))).collect();
        let hit = self.search(0, &segments, method, true)?;
        hit.exact.then(|| &self.rules[hit.rule])
    }

    /// The first rule below a node in the order of precedence. A node stands at one depth,
    /// so each is visited once at most.
    fn search(
        &self,
        node: usize,
        segments: &[(&str, Cow<'_, str>)],
        method: &str,
        exact: bool,
    ) -> Option<Hit> {
        let node = &self.nodes[node];
        let rule = |by_method: &BTreeMap<String, usize>| {
            let rule = by_method.get(method).or_else(|| by_method.get(Method::ANY));
            rule.map(|rule| Hit { rule: *rule, exact })
        };
        let Some(((segment, folded), rest)) = segments.split_first() else {
            return rule(&node.here);
        };
        let alike = node.literals.get(folded.as_ref()).map(Vec::as_slice).unwrap_or_default();
        let (same, others): (Vec<_>, Vec<_>) =
            alike.iter().partition(|(literal, _)| literal == segment);
        let literal =
            |exact| move |(_, child): &(String, usize)| self.search(*child, rest, method, exact);
        same.into_iter()
            .find_map(literal(exact))
            .or_else(|| others.into_iter().find_map(literal(false)))
            .or_else(|| node.one.and_then(|child| self.search(child, rest, method, exact)))
            .or_else(|| rule(&node.rest))
    }
}

fn without_end(segment: &str) -> &str {
    segment.trim().trim_end_matches(|c: char| c == '.' || c.is_whitespace())
}

/// A segment without what some backends do not tell apart: case, form, and dots and spaces
/// at its end.
fn folded(segment: &str) -> Cow<'_, str> {
    let trimmed = without_end(segment);
    let plain = |b: u8| b.is_ascii() && !b.is_ascii_uppercase();
    if trimmed.bytes().all(plain) {
        return Cow::Borrowed(trimmed);
    }
    if trimmed.is_ascii() {
        return Cow::Owned(trimmed.to_ascii_lowercase());
    }
    // Some letters are equal only when both are made large.
    let folded = fold(&trimmed.to_uppercase());
    Cow::Owned(without_end(&folded).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Endpoint {
        let (method, path) = text.split_once(' ').unwrap();
        Endpoint {
            method: Method::parse(method).unwrap(),
            path: PathTemplate::parse(path).unwrap_or_else(|fault| panic!("{path} {fault:?}")),
            needs: NeededScopes::default(),
            limits: None,
            description: String::new(),
        }
    }

    fn rules(texts: &[&str]) -> Endpoints {
        Endpoints::new(texts.iter().map(|text| rule(text))).unwrap()
    }

    /// The rule that a request finds, as it is written; `-`: none.
    fn found(endpoints: &Endpoints, request: &str) -> String {
        let (method, path) = request.split_once(' ').unwrap();
        let path = RequestPath::parse(path).unwrap();
        let found = endpoints.find(method, &path);
        found.map_or("-".to_owned(), |rule| format!("{} {}", rule.method, rule.path))
    }

    #[test]
    fn the_most_special_rule_is_found() {
        let mut texts = [
            "GET /",
            "GET /v1/calls",
            "POST /v1/calls",
            "GET /v1/calls/{id}",
            "DELETE /v1/calls/{id}",
            "* /v1/calls/{id}",
            "POST /v1/calls/export",
            "GET /v1/calls/{id}/notes",
            "GET /v1/calls/{id}/notes/{note}",
            "GET /v1/calls/{id}/**",
            "GET /v1/{what}/mine/notes",
            "GET /v1/{what}/{id}",
            "* /v1/{what}/special",
            "* /v1/admin/**",
            "GET /v1/**",
            "* /v2/**",
            "PURGE /v2/**",
        ];
        let table = [
            ("GET /", "GET /"),
            ("POST /", "-"),
            ("GET /v1", "-"),
            ("GET /v1/calls", "GET /v1/calls"),
            ("GET /v1/calls/", "GET /v1/calls"),
            ("GET /v1/c%61lls", "GET /v1/calls"),
            ("GET /v1/calls?x=/v1/admin", "GET /v1/calls"),
            ("PUT /v1/calls", "-"),
            ("GET /v1/calls/7", "GET /v1/calls/{id}"),
            ("DELETE /v1/calls/7", "DELETE /v1/calls/{id}"),
            ("PUT /v1/calls/7", "* /v1/calls/{id}"),
            // What has no rule for its method goes on to the next best path.
            ("POST /v1/calls/export", "POST /v1/calls/export"),
            ("GET /v1/calls/export", "GET /v1/calls/{id}"),
            ("GET /v1/calls/7/notes", "GET /v1/calls/{id}/notes"),
            ("GET /v1/calls/7/notes/9", "GET /v1/calls/{id}/notes/{note}"),
            ("GET /v1/calls/7/notes/9/x", "GET /v1/calls/{id}/**"),
            ("GET /v1/calls/7/x", "GET /v1/calls/{id}/**"),
            // From the left: `calls` before `mine`.
            ("GET /v1/calls/mine/notes", "GET /v1/calls/{id}/notes"),
            ("GET /v1/other/mine/notes", "GET /v1/{what}/mine/notes"),
            ("GET /v1/other/9", "GET /v1/{what}/{id}"),
            // The path goes before the method.
            ("GET /v1/other/special", "* /v1/{what}/special"),
            ("GET /v1/admin/special", "* /v1/admin/**"),
            ("GET /v1/admin/7", "* /v1/admin/**"),
            ("GET /v1/admin", "GET /v1/**"),
            ("GET /v1/other", "GET /v1/**"),
            ("GET /v1/other/1/2/3", "GET /v1/**"),
            ("POST /v1/other", "-"),
            ("PURGE /v2/x", "PURGE /v2/**"),
            ("GET /v2/x", "* /v2/**"),
            ("GET /v2", "-"),
            ("GET /v3/x", "-"),
            // No rule could name these methods, so `*` does not mean them either.
            ("get /v2/x", "-"),
            ("Purge /v2/x", "-"),
            ("* /v2/x", "-"),
        ];
        // Whatever the order in which they stand.
        for turn in 0..texts.len() {
            texts.rotate_left(turn);
            let endpoints = rules(&texts);
            for (request, expected) in table {
                assert_eq!(found(&endpoints, request), expected, "{request}");
            }
        }
        let endpoints = rules(&texts);
        for method in ["", " GET", "GET ", "GET\r\n", "GÉT"] {
            assert_eq!(endpoints.find(method, &RequestPath::parse("/v2/x").unwrap()), None);
        }
    }

    #[test]
    fn a_path_that_some_backends_take_for_another_finds_nothing() {
        let endpoints = rules(&[
            "GET /v1/users/{id}",
            "GET /v1/users/export",
            "* /{version}/{what}/**",
            "GET /v1/K/S",
            "GET /v1/Both",
            "GET /v1/both",
        ]);
        for (request, expected) in [
            ("GET /v1/users/export", "GET /v1/users/export"),
            ("GET /v1/users/%65xport", "GET /v1/users/export"),
            ("GET /v1/users/7", "GET /v1/users/{id}"),
            ("GET /v1/users/exports", "GET /v1/users/{id}"),
            ("GET /v1/users/Inc.", "GET /v1/users/{id}"),
            ("GET /v1/users/export/x", "* /{version}/{what}/**"),
            // A backend without care for case serves what needs another scope.
            ("GET /v1/users/EXPORT", "-"),
            ("GET /v1/users/%45xport", "-"),
            ("GET /v1/users/export.", "-"),
            ("GET /v1/users/export%20", "-"),
            ("GET /v1/users/%20export", "-"),
            ("GET /v1/users/export%20.%20.", "-"),
            ("GET /v1/users/ｅｘｐｏｒｔ", "-"),
            ("GET /v1/users/%ef%bc%a5xport", "-"),
            // Not even by a rule that stands higher up.
            ("GET /v1/USERS/7", "-"),
            ("GET /V1/users/7", "-"),
            ("GET /V1/USERS/EXPORT", "-"),
            // K and ſ, which are k and s for some.
            ("GET /v1/\u{212a}/S", "-"),
            ("GET /v1/K/\u{17f}", "-"),
            ("GET /v1/K/S", "GET /v1/K/S"),
            // Where no rule differs, it makes no difference.
            ("GET /v2/USERS/7", "* /{version}/{what}/**"),
            ("GET /v1/Both", "GET /v1/Both"),
            ("GET /v1/both", "GET /v1/both"),
            ("GET /v1/BOTH", "-"),
        ] {
            assert_eq!(found(&endpoints, request), expected, "{request}");
        }
    }

    #[test]
    fn the_tree_finds_what_reading_all_rules_finds() {
        // Random rules over a few words, beside a search that is plain to see.
        const PARTS: [&str; 8] = ["a", "b", "c", "{x}", "{y}", "{z}", "a", "b"];
        let mut seed = 7_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(seed >> 33).unwrap() % below
        };
        for _ in 0..300 {
            let mut endpoints = Endpoints::default();
            for _ in 0..random(30) {
                let mut path: Vec<&str> = Vec::new();
                for _ in 0..random(5) {
                    let part = PARTS[random(PARTS.len())];
                    if !(part.starts_with('{') && path.contains(&part)) {
                        path.push(part);
                    }
                }
                if random(4) == 0 {
                    path.push("**");
                }
                let method = ["GET", "POST", "*"][random(3)];
                // Those that mean the same as another are left out.
                let _ = endpoints.insert(rule(&format!("{method} /{}", path.join("/"))));
            }
            for _ in 0..100 {
                let path: Vec<_> =
                    (0..random(6)).map(|_| ["a", "b", "c", "d"][random(4)]).collect();
                let text = format!("/{}", path.join("/"));
                let request = RequestPath::parse(&text).unwrap();
                let method = ["GET", "POST", "PUT"][random(3)];
                let found = endpoints.find(method, &request);
                let expected =
                    endpoints.iter().filter_map(|rule| Some((rank(rule, method, &path)?, rule)));
                let expected = expected.min_by(|(one, _), (other, _)| one.cmp(other));
                assert_eq!(found, expected.map(|(_, rule)| rule), "{method} {text}");
            }
        }
    }

    /// How special a rule is for a request, the least first; `None`: it does not mean it.
    fn rank(rule: &Endpoint, method: &str, path: &[&str]) -> Option<Vec<u8>> {
        let mut ranks = Vec::new();
        let mut path = path.iter();
        for segment in &rule.path.segments {
            let asked = path.next()?;
            ranks.push(match segment {
                Segment::Literal(text) if text == asked => 0,
                Segment::Literal(_) => return None,
                Segment::One => 1,
                Segment::Rest => {
                    path = [].iter();
                    2
                }
            });
        }
        let any = rule.method.as_str() == "*";
        let meant = path.next().is_none() && (any || rule.method.as_str() == method);
        ranks.push(u8::from(any));
        meant.then_some(ranks)
    }

    #[test]
    fn two_rules_do_not_mean_the_same() {
        let mut endpoints = rules(&["GET /a/{x}", "GET /a/**", "* /a/{x}", "GET /"]);
        for (text, same) in [
            ("GET /a/{other}", "GET /a/{x}"),
            ("GET /a/**", "GET /a/**"),
            ("* /a/{y}", "* /a/{x}"),
            ("GET /", "GET /"),
        ] {
            let fault = endpoints.insert(rule(text)).unwrap_err();
            assert_eq!(fault, Fault::new(format!("means the same as {same}")), "{text}");
        }
        for text in ["GET /a/b", "GET /a", "GET /a/{x}/{y}", "POST /a/**", "GET /a/B", "* /"] {
            endpoints.insert(rule(text)).unwrap();
        }
        assert_eq!(endpoints.iter().count(), 10);
    }

    #[test]
    fn a_search_is_short_whatever_is_asked() {
        // Every node has two ways down: were they all tried again and again, this would take
        // for ever.
        let paths = (0..500_usize).map(|n| {
            let part = |bit: usize| {
                let literal = n >> (bit % 9) & 1 == 0;
                if literal { "a".to_owned() } else { format!("{{p{bit}}}") }
            };
            let parts: Vec<_> = (0..31).map(part).collect();
            format!("GET /{}/z", parts.join("/"))
        });
        let endpoints = Endpoints::new(paths.map(|text| rule(&text))).unwrap();
        let request = format!("{}/y", "/a".repeat(31));
        for _ in 0..100 {
            assert_eq!(endpoints.find("GET", &RequestPath::parse(&request).unwrap()), None);
        }
    }

    #[test]
    fn methods_and_templates_hold_to_their_form() {
        for good in ["GET", "*", "M-SEARCH", "VERSION_2", &"A".repeat(32)] {
            assert!(Method::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "get", "Get", "GET ", "**", "G*T", "GÉT", "A\n", &"A".repeat(33)] {
            assert!(Method::parse(bad).is_err(), "{bad:?}");
        }
        let deep = "/a".repeat(32);
        let long = format!("/{}", "a".repeat(511));
        for good in ["/", "/**", "/{id}", "/v1/calls:batch", "/.well-known/x", &deep, &long] {
            assert_eq!(PathTemplate::parse(good).map(|path| path.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "v1",
            "//",
            "/v1/",
            "/v1//x",
            "/./x",
            "/v1/..",
            "/...",
            "/a b",
            "/a%20b",
            "/a;b",
            "/a?b",
            "/a#b",
            "/a\\b",
            "/ä",
            "/a\n",
            "/*",
            "/a*",
            "/**/x",
            "/**/**",
            "/***",
            "/{}",
            "/{id",
            "/id}",
            "/{i-d}",
            "/{id}.json",
            "/{{id}}",
            "/{id}/x/{id}",
            &"/a".repeat(33),
            &format!("/{}", "a".repeat(512)),
        ] {
            assert!(PathTemplate::parse(bad).is_err(), "{bad:?}");
        }
    }
}
