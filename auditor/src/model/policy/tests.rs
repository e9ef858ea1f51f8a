//! Policies that people write, and policies that nobody would.

use super::{Endpoint, Policy, PrivilegeGain, limits};
use crate::model::capability;
use crate::model::facts::EntityProfile;
use crate::model::kinds::{Dimension, RuleId};
use crate::model::output::EntityKind;
use proptest::prelude::*;

const FULL: &str = r#"
[defaults]
required = ["net", "mnt"]
privilege_gain = "violation"

[[role]]
name = "web"
match = { image = "nginx*", namespace = "prod", label.app.tier = "front", "label.a/b" = "?" }
capabilities = ["NET_BIND_SERVICE", "CAP_KILL"]

[[role]]
name = "rootless"
match = { kind = "container", uid = 1000 }
capabilities = ["KILL"]

[[share]]
between = ["role:web", "host"]
dimensions = ["net", "uts"]
reason = "hostNetwork"

[[allow]]
rule = "namespace-nest"
subject = "role:web"
object = "9f2c*"
dimension = "user"
reason = "rootless builds"
"#;

fn web() -> EntityProfile {
    let mut profile = EntityProfile::new(EntityKind::Container, "runc:9f2cab");
    profile.image = Some("nginx:1.29".to_owned());
    profile.namespace = Some("prod".to_owned());
    profile.labels = [("app.tier", "front"), ("a/b", "x")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    profile.uid = Some(0);
    profile
}

fn refusal(text: &str) -> String {
    Policy::parse(text, "policy.toml")
        .expect_err(text)
        .to_string()
}

/// The default text says what no policy says.
#[test]
fn the_default_text_is_the_default() {
    assert_eq!(
        Policy::parse(Policy::DEFAULT_TEXT, "default"),
        Ok(Policy::default())
    );
    assert_eq!(Policy::parse("", "empty"), Ok(Policy::default()));
}

/// The examples in the comments of the default text are themselves a policy, save for the roles
/// that they leave to the reader.
#[test]
fn the_commented_examples_parse() {
    let examples = Policy::DEFAULT_TEXT.split_once("# [[role]]").unwrap().1;
    let examples = format!("[[role]]{}", examples.replace("\n# ", "\n"))
        .lines()
        .filter(|line| line.starts_with("[[") || line.contains(" = "))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(refusal(&examples).contains("unknown role \"sidecar\" (known: web)"));
    let known = examples.replace("sidecar", "web").replace("builder", "web");
    let policy = Policy::parse(&known, "examples").unwrap();
    let entries = (policy.roles.len(), policy.shares.len(), policy.allows.len());
    assert_eq!(entries, (1, 1, 1));
}

/// Roles match on every key, and several roles intersect.
#[test]
fn roles_match_and_intersect() {
    let policy = Policy::parse(FULL, "p").unwrap();
    assert_eq!(policy.privilege_gain, PrivilegeGain::Violation);
    assert_eq!(policy.required, [Dimension::Mnt, Dimension::Net].into());
    let mut profile = web();
    assert_eq!(policy.roles(&profile), [0]);
    let both = ["KILL", "NET_BIND_SERVICE"];
    assert_eq!(capability::names(policy.permitted(&profile).unwrap()), both);
    profile.uid = Some(1000);
    assert_eq!(policy.roles(&profile), [0, 1]);
    assert_eq!(
        capability::names(policy.permitted(&profile).unwrap()),
        ["KILL"]
    );
    profile.labels.clear();
    profile.uid = None;
    assert_eq!(
        (policy.roles(&profile), policy.permitted(&profile)),
        (vec![], None)
    );
}

/// Shares have no direction; allows have one, and an absent key means any.
#[test]
fn shares_and_allows_find_their_entry() {
    let policy = Policy::parse(FULL, "p").unwrap();
    let (web, host) = (web(), EntityProfile::host());
    assert_eq!(
        policy.shares[0].between,
        [Endpoint::Host, Endpoint::Role("web".to_owned())]
    );
    for (a, b) in [(&web, &host), (&host, &web)] {
        assert!(policy.shares(a, b, Dimension::Net).is_some());
        assert!(policy.shares(a, b, Dimension::Mnt).is_none());
    }
    assert!(policy.shares(&web, &web, Dimension::Net).is_none());
    let nest = RuleId::NamespaceNest;
    let found = policy
        .allows(nest, &web, Some(&web), Dimension::User)
        .unwrap();
    assert_eq!(found.reason, "rootless builds");
    assert!(
        policy
            .allows(nest, &host, Some(&web), Dimension::User)
            .is_none()
    );
    assert!(policy.allows(nest, &web, None, Dimension::User).is_none());
    assert!(
        policy
            .allows(nest, &web, Some(&web), Dimension::Net)
            .is_none()
    );
    assert!(
        policy
            .allows(RuleId::NamespaceJoin, &web, Some(&web), Dimension::User)
            .is_none()
    );
}

/// Each refusal has the position and says what would be right.
#[test]
fn refusals_have_position_and_remedy() {
    let cases = [
        (
            "[[share]]\nbetween = [\"host\", \"a\"]\n  dimension = [\"net\"]\n",
            "3:3: unknown key",
        ),
        (
            "[[share]]\nbetween = [\"host\", \"a\"]\n",
            "1:1: key \"dimensions\" is missing",
        ),
        (
            "x = 1",
            "1:1: unknown key \"x\" (known: defaults, role, share, allow)",
        ),
        (
            "[defaults]\nrequired = [\"net\", \"nett\"]",
            "2:20: unknown dimension \"nett\" (known: mnt",
        ),
        (
            "[defaults]\nrequired = [\"privilege\"]",
            "2:13: unknown dimension \"privilege\"",
        ),
        (
            "[defaults]\nrequired = []",
            "2:12: required must name at least one dimension",
        ),
        (
            "[defaults]\nprivilege_gain = \"no\"",
            "2:18: unknown privilege_gain \"no\" (known: audit,",
        ),
        (
            "[defaults]\nrequired = \"net\"",
            "2:12: expected a list, found string",
        ),
        ("role = 3", "1:8: expected an array of tables"),
        (
            "[[role]]\nname = \"a\"\nmatch = {}",
            "3:9: match must give at least one key",
        ),
        (
            "[[role]]\nname = \"a\"\nmatch = { imag = \"x\" }",
            "3:11: unknown key \"imag\" (known: id,",
        ),
        (
            "[[role]]\nname = \"a\"\nmatch = { kind = \"pod\" }",
            "3:18: unknown kind \"pod\" (known: host",
        ),
        (
            "[[role]]\nname = \"a\"\nmatch = { id = \"x\" }\ncapabilities = [\"NET_ADMN\"]",
            "4:17: unknown capability \"NET_ADMN\" (known: CHOWN,",
        ),
        (
            "[[role]]\nname='a'\nmatch={id='x'}\n[[role]]\nname='a'\nmatch={id='y'}",
            "5:6: role \"a\" is named twice",
        ),
        (
            "[[allow]]\nrule='namespace-joinn'",
            "2:6: unknown rule \"namespace-joinn\" (known: namespa",
        ),
        (
            "[[allow]]\nrule='namespace-join'\nsubject='role:x'",
            "3:9: unknown role \"x\" (none is defined)",
        ),
        (
            "[[share]]\nbetween=['host']",
            "2:9: between must name two sides",
        ),
        ("a = \n", "1:5: "),
        ("[defaults]\nreason = 'ü' ; \"", "2:14: "),
    ];
    for (text, expected) in cases {
        let refusal = refusal(text);
        assert!(
            refusal.starts_with(&format!("policy.toml:{expected}")),
            "{text}\n{refusal}"
        );
        assert!(!refusal.contains('\n'), "{refusal}");
    }
    assert!(refusal(cases[0].0).ends_with("(known: between, dimensions, reason)"));
}

/// Sizes are bounded, and depth is no way around.
#[test]
fn bounds_hold() {
    let long = "x".repeat(limits::STRING_BYTES + 1);
    assert!(refusal(&format!("[[allow]]\nrule = \"{long}\"")).contains("longer than"));
    let many = "\"net\",".repeat(limits::ITEMS + 1);
    assert!(refusal(&format!("[defaults]\nrequired = [{many}]")).contains("items"));
    let entries = "[[share]]\n".repeat(limits::ENTRIES + 1);
    assert!(refusal(&entries).contains("more than 1024 entries"));
    assert!(refusal(&"#".repeat(limits::TEXT_BYTES + 1)).contains("larger than"));
    let deep = format!(
        "[[role]]\nname='a'\nmatch.label.{}x = 'y'",
        "a.".repeat(2000)
    );
    assert!(Policy::parse(&deep, "p").is_err());
    assert!(Policy::parse(&format!("x = {}", "[".repeat(100_000)), "p").is_err());
}

/// Comments, blank lines, quotes and the order of keys and of sets do not change the digest;
/// meaning does.
#[test]
fn the_digest_is_of_the_meaning() {
    let policy = Policy::parse(FULL, "p").unwrap();
    let other = r#"
        allow = [{ reason = 'rootless builds', dimension = 'user', object = '9f2c*', subject = 'role:web', rule = 'namespace-nest' }]
        defaults.privilege_gain = 'violation' # gains
        defaults.required = ['mnt', 'net', 'mnt']
        [[role]]
        capabilities = ['kill', 'net_bind_service']
        name = 'web'
        [role.match]
        "label.app.tier" = "front"
        label."a/b" = '?'
        namespace = 'prod'
        image = 'nginx*'
        [[role]]
        match = { uid = "1000", kind = 'container' }
        name = 'rootless'
        capabilities = ['CAP_KILL']
        [[share]]
        reason = 'hostNetwork'
        dimensions = ['uts', 'net']
        between = ['host', 'role:web']
    "#;
    assert_eq!(Policy::parse(other, "q").unwrap(), policy);
    assert_eq!(Policy::parse(other, "q").unwrap().digest(), policy.digest());
    assert_eq!(policy.digest().len(), 64);
    assert_ne!(policy.digest(), Policy::default().digest());
    let changed = Policy::parse(&FULL.replace("9f2c*", "9f2d*"), "p").unwrap();
    assert_ne!(policy.digest(), changed.digest());
}

/// A policy survives a trace.
#[test]
fn a_policy_survives_storage() {
    for policy in [Policy::default(), Policy::parse(FULL, "p").unwrap()] {
        let stored = serde_json::to_string(&policy).unwrap();
        let read: Policy = serde_json::from_str(&stored).unwrap();
        assert_eq!(read.digest(), policy.digest());
        assert_eq!(read, policy);
    }
}

/// Lines of a policy and of nonsense, to be shuffled.
fn line() -> impl Strategy<Value = String> {
    let known: Vec<String> = FULL.lines().map(str::to_owned).collect();
    prop_oneof![
        4 => prop::sample::select(known),
        1 => "\\PC{0,24}",
        1 => "[a-z.\\[\\]={}\"', \n#0-9_*-]{0,40}",
    ]
}

proptest! {
    /// No text makes the reader panic, and what it accepts it gives back the same.
    #[test]
    fn no_text_panics(text in "[\\PC\n\t]{0,200}") {
        let _ = Policy::parse(&text, "p");
    }

    /// The same for text that is nearly a policy.
    #[test]
    fn near_policies_do_not_panic(lines in prop::collection::vec(line(), 0..20)) {
        if let Ok(policy) = Policy::parse(&lines.join("\n"), "p") {
            let _ = (policy.permitted(&web()), policy.share_sides(&web()));
            let stored = serde_json::to_string(&policy).unwrap();
            prop_assert_eq!(serde_json::from_str::<Policy>(&stored).unwrap(), policy);
        }
    }

    /// Comments and blank lines anywhere between lines change nothing.
    #[test]
    fn formatting_does_not_change_the_digest(noise in prop::collection::vec(
        prop::sample::select(vec!["", "\n", "# x\n", "  \n\t# [[role]]\n"]), 40,
    )) {
        let text: String = FULL
            .lines()
            .zip(noise.iter().cycle())
            .flat_map(|(line, noise)| [line, "   # c\n", noise])
            .collect();
        let policy = Policy::parse(&text, "p").unwrap();
        prop_assert_eq!(policy.digest(), Policy::parse(FULL, "p").unwrap().digest());
    }
}
