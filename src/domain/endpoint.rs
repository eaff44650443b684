//! Endpoint rules: which scopes a request to the platform's own API needs.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::fields::Fault;
use super::folding::fold;
use super::{Limits, NeededScopes, RequestPath, TenantId};

/// A rule for requests with this method to paths that match the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub method: HttpMethod,
    pub path: PathTemplate,
    /// The scopes that a request needs. If empty, every valid token is allowed.
    pub needs: NeededScopes,
    /// Limits for requests that match the rule, counted separately for each application.
    pub limits: Option<Limits>,
    pub description: String,
}

impl Endpoint {
    /// The maximum number of scopes in each of its two lists.
    pub const MAX_SCOPES: usize = 20;

    /// The resource name: `tenants/acme/endpoints/GET /v1/calls/{id}`.
    pub fn name(&self, tenant: &TenantId) -> String {
        format!("{}/endpoints/{} {}", tenant.name(), self.method, self.path)
    }
}

/// The HTTP method of a rule, or `*` for all methods. Methods are case-sensitive (RFC 9110, section
/// 9.1): `get` is not `GET`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpMethod(String);

impl HttpMethod {
    const ANY: &'static str = "*";

    pub fn parse(value: &str) -> Result<Self, Fault> {
        if value == Self::ANY || is_method(value) {
            Ok(Self(value.to_owned()))
        } else {
            Err(Fault::new("must be * or a method like GET (1 to 32 of A-Z 0-9 - _)"))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_method(value: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=32).contains(&value.len()) && value.bytes().all(allowed)
}

impl fmt::Display for HttpMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path template: `/v1/calls/{id}/notes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// Matches exactly this text.
    Literal(String),
    /// `{name}`: matches any one segment.
    One,
    /// `**`: matches one or more segments. Only at the end.
    Rest,
}

impl PathTemplate {
    const MAX_BYTES: usize = 512;
    const MAX_SEGMENTS: usize = 32;

    pub fn parse(value: &str) -> Result<Self, Fault> {
        if value.len() > Self::MAX_BYTES {
            return Err(Fault::new(format!("must have at most {} bytes", Self::MAX_BYTES)));
        }
        let rest = value.strip_prefix('/').ok_or_else(|| Fault::new("must begin with a slash"))?;
        let parts: Vec<_> = if rest.is_empty() { Vec::new() } else { rest.split('/').collect() };
        if parts.len() > Self::MAX_SEGMENTS {
            let max = Self::MAX_SEGMENTS;
            return Err(Fault::new(format!("must have at most {max} segments")));
        }
        let mut names = BTreeSet::new();
        let mut segments = Vec::with_capacity(parts.len());
        for part in parts {
            if segments.last() == Some(&Segment::Rest) {
                return Err(Fault::new("can have ** only at its end"));
            }
            let segment = segment(part)?;
            if segment == Segment::One && !names.insert(part) {
                return Err(Fault::new(format!("must not have {part} twice")));
            }
            segments.push(segment);
        }
        Ok(Self { text: value.to_owned(), segments })
    }

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
    // Templates are written decoded, so that there is one way to write each, and contain only
    // characters that a parsed request path can contain.
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

/// The endpoint rules of a tenant. No two rules match the same requests.
#[derive(Clone, Debug)]
pub struct Endpoints {
    rules: Vec<Endpoint>,
    /// A tree of segments. The first node is the root.
    nodes: Vec<Node>,
}

/// A node: the rules whose templates share a prefix.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Children by literal segment. The key is the folded segment; each value is the exact segment
    /// and the child's index.
    literals: BTreeMap<String, Vec<(String, usize)>>,
    /// The child for `{name}`.
    one: Option<usize>,
    /// Rules that end at this node, by method.
    here: BTreeMap<String, usize>,
    /// Rules that end at this node with `**`, by method.
    rest: BTreeMap<String, usize>,
}

/// A rule that matches.
#[derive(Clone, Copy)]
struct Hit {
    rule: usize,
    /// Whether all literal segments match exactly, case included.
    exact: bool,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self { rules: Vec::new(), nodes: vec![Node::default()] }
    }
}

impl Endpoints {
    /// The maximum number of rules of a tenant.
    pub const MAX: usize = 5_000;

    pub fn new(rules: impl IntoIterator<Item = Endpoint>) -> Result<Self, Fault> {
        let mut endpoints = Self::default();
        rules.into_iter().try_for_each(|rule| endpoints.insert(rule))?;
        Ok(endpoints)
    }

    /// Adds a rule. Returns a fault if another rule matches the same requests.
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
            return Err(Fault::new(format!("matches the same requests as {method} {path}")));
        }
        by_method.insert(rule.method.as_str().to_owned(), self.rules.len());
        self.rules.push(rule);
        Ok(())
    }

    /// About how many bytes of memory the rules take.
    pub fn memory(&self) -> usize {
        // A map that is not empty has room for 11 entries.
        let map = |is_empty: bool, entry: usize| if is_empty { 0 } else { 11 * entry + 16 };
        let nodes = self.nodes.iter().map(|node| {
            let alike = node.literals.iter().map(|(folded, alike)| {
                let exact = alike.iter().map(|(literal, _)| literal.len() + 32).sum::<usize>();
                folded.len() + exact + 4 * 32
            });
            size_of::<Node>()
                + map(node.literals.is_empty(), 48)
                + map(node.here.is_empty(), 32)
                + map(node.rest.is_empty(), 32)
                + alike.sum::<usize>()
        });
        let rules = self.rules.iter().map(|rule| {
            let needs = [&rule.needs.all_of, &rule.needs.any_of];
            let scopes = needs.into_iter().flat_map(super::ScopeSet::iter);
            size_of::<Endpoint>()
                + 2 * rule.path.text.len()
                + rule.path.segments.len() * size_of::<Segment>()
                + rule.description.len()
                + scopes.map(|scope| 64 + scope.as_str().len()).sum::<usize>()
        });
        nodes.sum::<usize>() + rules.sum::<usize>()
    }

    /// The rules, in insertion order.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.rules.iter()
    }

    /// The most specific rule that matches a request. Segments are compared from left to right: a
    /// literal takes precedence over `{name}`, which takes precedence over `**`. For the same path,
    /// a method takes precedence over `*`.
    ///
    /// Two kinds of requests match no rule. A method that no rule could name, such as `get`: it
    /// must not avoid the rule for `GET` by matching the one for `*`. And a path that a lenient
    /// backend could treat as another rule's path, because it differs only in case, width, or
    /// trailing dots and spaces: `/v1/Export` if there are rules for `/v1/export` and `/v1/{id}`.
    pub fn find(&self, method: &str, path: &RequestPath<'_>) -> Option<&Endpoint> {
        if !is_method(method) {
            return None;
        }
        let segments: Vec<_> = path.segments().map(|text| (text, folded(text))).collect();
        let hit = self.search(0, &segments, method, true)?;
        hit.exact.then(|| &self.rules[hit.rule])
    }

    /// The first rule below a node in order of precedence. Each node is at a fixed depth, so it is
    /// visited at most once.
    fn search(
        &self,
        node: usize,
        segments: &[(&str, Cow<'_, str>)],
        method: &str,
        exact: bool,
    ) -> Option<Hit> {
        let node = &self.nodes[node];
        let rule = |by_method: &BTreeMap<String, usize>| {
            let rule = by_method.get(method).or_else(|| by_method.get(HttpMethod::ANY));
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

fn without_trailing_dots(segment: &str) -> &str {
    segment.trim().trim_end_matches(|c: char| c == '.' || c.is_whitespace())
}

/// A segment without the differences that some backends ignore: case, Unicode form, and trailing
/// dots and spaces.
fn folded(segment: &str) -> Cow<'_, str> {
    let trimmed = without_trailing_dots(segment);
    let plain = |b: u8| b.is_ascii() && !b.is_ascii_uppercase();
    if trimmed.bytes().all(plain) {
        return Cow::Borrowed(trimmed);
    }
    if trimmed.is_ascii() {
        return Cow::Owned(trimmed.to_ascii_lowercase());
    }
    // Some letters have equal upper case and different lower case.
    let folded = fold(&trimmed.to_uppercase());
    Cow::Owned(without_trailing_dots(&folded).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Endpoint {
        let (method, path) = text.split_once(' ').unwrap();
        Endpoint {
            method: HttpMethod::parse(method).unwrap(),
            path: PathTemplate::parse(path).unwrap_or_else(|fault| panic!("{path} {fault:?}")),
            needs: NeededScopes::default(),
            limits: None,
            description: String::new(),
        }
    }

    fn rules(texts: &[&str]) -> Endpoints {
        Endpoints::new(texts.iter().map(|text| rule(text))).unwrap()
    }

    /// The rule that a request matches, or `-`.
    fn found(endpoints: &Endpoints, request: &str) -> String {
        let (method, path) = request.split_once(' ').unwrap();
        let path = RequestPath::parse(path).unwrap();
        let found = endpoints.find(method, &path);
        found.map_or("-".to_owned(), |rule| format!("{} {}", rule.method, rule.path))
    }

    #[test]
    fn most_specific_rule_is_found() {
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
            // If a path has no rule for the method, the next best path is tried.
            ("POST /v1/calls/export", "POST /v1/calls/export"),
            ("GET /v1/calls/export", "GET /v1/calls/{id}"),
            ("GET /v1/calls/7/notes", "GET /v1/calls/{id}/notes"),
            ("GET /v1/calls/7/notes/9", "GET /v1/calls/{id}/notes/{note}"),
            ("GET /v1/calls/7/notes/9/x", "GET /v1/calls/{id}/**"),
            ("GET /v1/calls/7/x", "GET /v1/calls/{id}/**"),
            // From left to right: `calls` before `mine`.
            ("GET /v1/calls/mine/notes", "GET /v1/calls/{id}/notes"),
            ("GET /v1/other/mine/notes", "GET /v1/{what}/mine/notes"),
            ("GET /v1/other/9", "GET /v1/{what}/{id}"),
            // The path takes precedence over the method.
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
            // No rule could name these methods, so `*` does not match them.
            ("get /v2/x", "-"),
            ("Purge /v2/x", "-"),
            ("* /v2/x", "-"),
        ];
        // The order of the rules does not matter.
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
    fn path_that_a_lenient_backend_could_confuse_finds_no_rule() {
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
            // A case-insensitive backend would serve the endpoint that needs another scope.
            ("GET /v1/users/EXPORT", "-"),
            ("GET /v1/users/%45xport", "-"),
            ("GET /v1/users/export.", "-"),
            ("GET /v1/users/export%20", "-"),
            ("GET /v1/users/%20export", "-"),
            ("GET /v1/users/export%20.%20.", "-"),
            ("GET /v1/users/ｅｘｐｏｒｔ", "-"),
            ("GET /v1/users/%ef%bc%a5xport", "-"),
            // A less specific rule is not used instead.
            ("GET /v1/USERS/7", "-"),
            ("GET /V1/users/7", "-"),
            ("GET /V1/USERS/EXPORT", "-"),
            // KELVIN SIGN and LONG S, which some backends fold to k and s.
            ("GET /v1/\u{212a}/S", "-"),
            ("GET /v1/K/\u{17f}", "-"),
            ("GET /v1/K/S", "GET /v1/K/S"),
            // No rule has another spelling, so the case does not matter.
            ("GET /v2/USERS/7", "* /{version}/{what}/**"),
            ("GET /v1/Both", "GET /v1/Both"),
            ("GET /v1/both", "GET /v1/both"),
            ("GET /v1/BOTH", "-"),
        ] {
            assert_eq!(found(&endpoints, request), expected, "{request}");
        }
    }

    #[test]
    fn tree_search_equals_linear_search() {
        // Random rules from a few words, compared with a simple search.
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
                // Rules that match the same requests as another are refused.
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

    /// The specificity of a rule for a request; the lowest is the most specific. `None`: no match.
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
    fn rules_that_match_the_same_requests_are_refused() {
        let mut endpoints = rules(&["GET /a/{x}", "GET /a/**", "* /a/{x}", "GET /"]);
        for (text, same) in [
            ("GET /a/{other}", "GET /a/{x}"),
            ("GET /a/**", "GET /a/**"),
            ("* /a/{y}", "* /a/{x}"),
            ("GET /", "GET /"),
        ] {
            let fault = endpoints.insert(rule(text)).unwrap_err();
            assert_eq!(fault, Fault::new(format!("matches the same requests as {same}")), "{text}");
        }
        for text in ["GET /a/b", "GET /a", "GET /a/{x}/{y}", "POST /a/**", "GET /a/B", "* /"] {
            endpoints.insert(rule(text)).unwrap();
        }
        assert_eq!(endpoints.iter().count(), 10);
    }

    #[test]
    fn search_takes_linear_time() {
        // Every node has two children. Trying all combinations would take exponential time.
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
    fn methods_and_templates_are_validated() {
        for good in ["GET", "*", "M-SEARCH", "VERSION_2", &"A".repeat(32)] {
            assert!(HttpMethod::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "get", "Get", "GET ", "**", "G*T", "GÉT", "A\n", &"A".repeat(33)] {
            assert!(HttpMethod::parse(bad).is_err(), "{bad:?}");
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
