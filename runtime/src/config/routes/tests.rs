//! What rules decide, and which rules are refused.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::{Settings, changes, read};

fn labels(all: &[(&str, &str)]) -> Labels {
    all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Where a call goes, in words.
fn goes(
    routes: &Routes,
    service: &str,
    method: &str,
    caller: &Labels,
    key: Option<u64>,
    draw: u64,
) -> String {
    let Decision { service, to, mirror } =
        routes.decide(&RouteRequest { service, method, key, caller }, draw);
    let to = match to {
        To::Any => "any".to_owned(),
        To::Subset(subset) => subset.to_string(),
        To::Deny => "denied".to_owned(),
    };
    let mirror = mirror.map(|subset| format!(" and {subset}")).unwrap_or_default();
    format!("{service}: {to}{mirror}")
}

#[test]
fn the_first_rule_that_matches_counts() {
    let routes = Routes::new()
        .route(Route::of("accounts").methods(["close"]).deny())
        .route(Route::of("accounts").caller("zone", "eu").to(Subset::with("zone", "eu").or_any()))
        .route(Route::of("accounts").key("vip").to(Subset::on("a")))
        .route(Route::of("acc*").mirror(Subset::with("version", "3")))
        .route(Route::of("old").redirect("accounts"));
    routes.check().unwrap();
    let (eu, us) = (labels(&[("zone", "eu"), ("disk", "fast")]), labels(&[("zone", "us")]));
    let vip = Some(Key::of("vip").0);
    for (service, method, caller, key, expected) in [
        ("accounts", "close", &eu, None, "accounts: denied"),
        ("accounts", "open", &eu, None, "accounts: zone=eu or any"),
        ("accounts", "open", &us, vip, "accounts: node a"),
        ("accounts", "open", &us, Some(1), "accounts: any and version=3"),
        ("accounts", "open", &us, None, "accounts: any and version=3"),
        ("account", "open", &eu, None, "account: any and version=3"),
        ("old", "close", &eu, None, "accounts: denied"),
        ("old", "open", &us, None, "accounts: any and version=3"),
        ("other", "open", &us, None, "other: any"),
    ] {
        assert_eq!(goes(&routes, service, method, caller, key, 0), expected, "{service}.{method}");
    }
}

proptest! {
    #[test]
    fn a_split_gives_each_part_its_share(weights in proptest::collection::vec(0..20_u32, 1..6)) {
        let sum: u32 = weights.iter().sum();
        prop_assume!(sum > 0);
        let parts = weights.iter().enumerate().map(|(part, weight)| (*weight, Subset::on(part.to_string())));
        let routes = Routes::new().route(Route::of("s").split(parts));
        let mut counts = vec![0; weights.len()];
        let step = u64::MAX / (u64::from(sum) * 3);
        for draw in (0..u64::from(sum) * 3).map(|draw| draw * step + step / 2) {
            let none = Labels::default();
            let request = RouteRequest { service: "s", method: "m", key: None, caller: &none };
            let To::Subset(subset) = routes.decide(&request, draw).to else { panic!("a part") };
            let part: usize = subset.node.as_ref().unwrap().parse().unwrap();
            counts[part] += 1;
        }
        prop_assert!(counts.iter().zip(&weights).all(|(count, weight)| *count == weight * 3));
    }
}

#[test]
fn a_rule_that_can_do_nothing_or_leads_in_a_circle_is_refused() {
    let to = |version: &str| Subset::with("version", version);
    for (routes, expected) in [
        (
            Routes::new().route(Route::of("")),
            "route 1 ( to any) has no service; expected a name, or the beginning of one with a `*` behind it",
        ),
        (
            Routes::new().route(Route::of("a").methods([""; 0])),
            "route 1 (a.{} to any) matches no method; leave `methods` out for all",
        ),
        (Routes::new().route(Route::of("a").split([])), "route 1 (a ) has no part to which calls could go"),
        (
            Routes::new().route(Route::of("a").split([(0, to("1")), (0, to("2"))])),
            "route 1 (a 0 to version=1 and 0 to version=2) has no part with a weight of more than 0",
        ),
        (
            Routes::new().route(Route::of("a").redirect("b*")),
            "route 1 (a to service b*) is redirected to \"b*\"; expected the whole name of a service",
        ),
        (
            Routes::new().route(Route::of("a*").to(to("1"))).route(Route::of("ab").methods(["m"]).deny()),
            "route 2 (ab.{m} denied) never applies: route 1 before it matches all that it does",
        ),
        (
            Routes::new().route(Route::of("a").redirect("b")).route(Route::of("b").redirect("a")),
            "route 1 (a to service b) leads in a circle: \"a\" is redirected to itself",
        ),
        (
            Routes::new().route(Route::of("a*").redirect("ab")),
            "route 1 (a* to service ab) leads in a circle: \"ab\" is redirected to itself",
        ),
        (
            Routes::new().route(Route::of("a").to(Subset::with("zone", ""))),
            "route 1 (a to zone=) label value name \"\" is empty",
        ),
    ] {
        assert_eq!(routes.check().unwrap_err().to_string(), expected);
    }
    let chain = (0..12).map(|hop| Route::of(format!("s{hop}")).redirect(format!("s{}", hop + 1)));
    let error = chain.fold(Routes::new(), Routes::route).check().unwrap_err();
    assert!(error.to_string().contains("is redirected more than 8 times"), "{error}");
    let distinct = Routes::new()
        .route(Route::of("a").caller("zone", "eu").to(to("1")))
        .route(Route::of("a").caller("zone", "us").to(to("2")))
        .route(Route::of("a").methods(["m"]).to(to("1")))
        .route(Route::of("a").key("k").to(to("3")))
        .route(Route::of("a*").to(to("4")));
    assert!(distinct.check().is_ok());
}

fn parse(text: &str) -> Result<Settings, String> {
    let text = format!("node.name = \"a\"\n{text}");
    read(Path::new("a.toml"), &text, &[]).map(|read| read.settings).map_err(|error| error.to_string())
}

#[test]
fn rules_are_read_from_the_file() {
    let text = r#"
[[route]]
service = "accounts"
methods = ["close"]
deny = true
[[route]]
service = "accounts"
caller = { zone = "eu" }
keys = ["vip", "ops"]
to = { version = "2", node = "b" }
otherwise = "any"
mirror = { version = "3" }
[[route]]
service = "accounts"
split = [{ to = { version = "1" }, weight = 90 }, { to = { version = "2" }, weight = 10 }]
[[route]]
service = "old"
redirect = "accounts"
"#;
    let settings = parse(text).unwrap();
    let shown = changes(&Settings::new("a".to_owned()), &settings);
    assert_eq!(
        shown.last().unwrap().to_string(),
        "route from nothing to accounts.{close} denied; accounts from zone=eu for key \"vip\" or \"ops\" to node b with version=2 or any, \
         mirrored to version=3; accounts 90 to version=1 and 10 to version=2; old to service accounts (live)"
    );
}

#[test]
fn a_rule_that_cannot_be_read_is_refused_with_its_line() {
    for (text, expected) in [
        ("[[route]]\ndeny = true", "a.toml:2: `route.service` is missing: what the rule is about"),
        ("route = 1", "a.toml:2: `route` is the integer 1; expected rules, each under its own `[[route]]`"),
        (
            "[[route]]\nservice = \"a\"\nmethod = [\"m\"]",
            "a.toml:4: there is no key `route.method`; did you mean `route.methods`?",
        ),
        (
            "[[route]]\nservice = 1",
            "a.toml:3: `route.service` is the integer 1; expected the name of a service",
        ),
        (
            "[[route]]\nservice = \"a\"\ndeny = false",
            "a.toml:4: `route.deny` is the boolean false; expected true, or nothing",
        ),
        (
            "[[route]]\nservice = \"a\"\ndeny = true\nredirect = \"b\"",
            "a.toml:2: `route` has `redirect` and `deny`; expected one of them",
        ),
        (
            "[[route]]\nservice = \"a\"\notherwise = \"any\"",
            "a.toml:2: `route.otherwise` needs `to` or `split`",
        ),
        (
            "[[route]]\nservice = \"a\"\nto = { zone = 1 }",
            "a.toml:4: `route.to` is the integer 1; expected labels such as { zone = \"eu\" }",
        ),
        (
            "[[route]]\nservice = \"a\"\nsplit = [{ to = {}, weight = -1 }]",
            "a.toml:4: `route.split.weight` is the integer -1; expected a whole number from 0 to 4294967295",
        ),
        (
            "[[route]]\nservice = \"a\"\nsplit = [{ to = {} }]",
            "a.toml:4: `route.split.weight` is missing: the part's share",
        ),
        (
            "[[route]]\nservice = \"a\"\n[[route]]\nservice = \"a\"\ndeny = true",
            "a.toml:4: `route` never applies: route 1 before it matches all that it does",
        ),
        (
            "[[route]]\nservice = \"a\"\nredirect = \"a\"",
            "a.toml:2: `route` leads in a circle: \"a\" is redirected to itself",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.lines().next(), Some(expected), "{error}");
    }
}
