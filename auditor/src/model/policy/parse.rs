//! Reading a policy text, with positions.
//!
//! The TOML tree is walked by hand: a derived deserializer would say what it expected, not what a
//! person should write instead, and would lose the position of a wrong name inside a list. Nothing
//! is skipped: every key of every table is either taken by a reader or refused.

use super::{
    Allow, Endpoint, EntityKind, Matcher, Policy, PolicyError, PrivilegeGain, Role, Share,
    kind_name, limits,
};
use crate::model::capability;
use crate::model::kinds::{Dimension, RuleId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

type Value<'t> = Spanned<DeValue<'t>>;

/// Reads a whole policy.
pub(super) fn policy(text: &str, origin: &str) -> Result<Policy, PolicyError> {
    let file = File { text, origin };
    if text.len() > limits::TEXT_BYTES {
        return file.refuse(
            0..0,
            format!("policy is larger than {} bytes", limits::TEXT_BYTES),
        );
    }
    let document = DeTable::parse(text)
        .map_err(|e| file.error(e.span().unwrap_or(0..0), e.message().replace('\n', ", ")))?;
    let root = Table {
        file: &file,
        span: document.span(),
        entries: document.get_ref(),
    };
    let root = root.only(&["defaults", "role", "share", "allow"])?;
    let mut policy = Policy::default();
    if let Some(value) = root.get("defaults") {
        defaults(file.table(value)?, &mut policy)?;
    }
    let roles = root.get("role");
    policy.roles = file.entries(roles, role)?;
    file.unique(roles, &policy.roles)?;
    let names: BTreeSet<&str> = policy.roles.iter().map(|role| role.name.as_str()).collect();
    policy.shares = file.entries(root.get("share"), |table| share(table, &names))?;
    policy.allows = file.entries(root.get("allow"), |table| allow(table, &names))?;
    Ok(policy)
}

fn defaults(table: Table<'_, '_>, policy: &mut Policy) -> Result<(), PolicyError> {
    let table = table.only(&["required", "privilege_gain"])?;
    let file = table.file;
    if let Some(value) = table.get("required") {
        policy.required = file
            .list(value, |v| file.pair_dimension(v))?
            .into_iter()
            .collect();
        if policy.required.is_empty() {
            return file.refuse(
                value.span(),
                "required must name at least one dimension".into(),
            );
        }
    }
    if let Some(value) = table.get("privilege_gain") {
        const KNOWN: [(&str, PrivilegeGain); 3] = [
            ("audit", PrivilegeGain::Audit),
            ("violation", PrivilegeGain::Violation),
            ("ignore", PrivilegeGain::Ignore),
        ];
        let given = file.string(value)?;
        let known = KNOWN.iter().find(|(name, _)| *name == given);
        let Some((_, gain)) = known else {
            return file.unknown(
                value.span(),
                "privilege_gain",
                given,
                KNOWN.map(|(name, _)| name),
            );
        };
        policy.privilege_gain = *gain;
    }
    Ok(())
}

fn role(table: Table<'_, '_>) -> Result<Role, PolicyError> {
    let table = table.only(&["name", "match", "capabilities"])?;
    let file = table.file;
    let name = file.string(table.require("name")?)?;
    let matcher = matcher(file.table(table.require("match")?)?)?;
    let capabilities = table
        .get("capabilities")
        .map(|value| file.list(value, |v| file.capability(v)));
    let capabilities = capabilities
        .transpose()?
        .map(|bits| bits.into_iter().fold(0, |mask, bit| mask | 1 << bit));
    Ok(Role {
        name: name.to_owned(),
        matcher,
        capabilities,
    })
}

/// Key of a label in quotes.
const LABEL: &str = "label.";

fn matcher(table: Table<'_, '_>) -> Result<Matcher, PolicyError> {
    let mut known = Matcher::FIELDS.to_vec();
    known.extend(["label", "label.NAME"]);
    let table = table.only_or(&known, |key| key.starts_with(LABEL))?;
    let file = table.file;
    let mut matcher = Matcher::default();
    if table.entries.is_empty() {
        return file.refuse(table.span, "match must give at least one key".into());
    }
    if table.entries.len() > limits::ITEMS {
        return file.refuse(
            table.span,
            format!("match has more than {} keys", limits::ITEMS),
        );
    }
    for key in Matcher::FIELDS {
        let Some(value) = table.get(key) else {
            continue;
        };
        let pattern = file.pattern(value)?;
        if key == "kind" {
            file.kind_pattern(value, &pattern)?;
        }
        matcher.fields.insert(key.to_owned(), pattern);
    }
    if let Some(value) = table.get("label") {
        let labels = file.table(value)?;
        labels_below(&labels, "", &mut matcher.labels)?;
    }
    // A quoted key, "label.app.kubernetes.io/name", stands for the label behind its first dot.
    for (key, value) in table.entries {
        if let Some(label) = key.get_ref().strip_prefix(LABEL) {
            file.bounded(key.span(), label)?;
            matcher
                .labels
                .insert(label.to_owned(), file.pattern(value)?);
        }
    }
    Ok(matcher)
}

/// An unquoted `label.app.tier` is a table in a table; the label's name has dots.
fn labels_below(
    table: &Table<'_, '_>,
    prefix: &str,
    labels: &mut BTreeMap<String, String>,
) -> Result<(), PolicyError> {
    let file = table.file;
    for (key, value) in table.entries.iter() {
        let name = format!("{prefix}{}", key.get_ref());
        file.bounded(key.span(), &name)?;
        if value.get_ref().is_table() {
            labels_below(&file.table(value)?, &format!("{name}."), labels)?;
        } else {
            labels.insert(name, file.pattern(value)?);
        }
        if labels.len() > limits::ITEMS {
            return file.refuse(
                key.span(),
                format!("match has more than {} keys", limits::ITEMS),
            );
        }
    }
    Ok(())
}

fn share(table: Table<'_, '_>, roles: &BTreeSet<&str>) -> Result<Share, PolicyError> {
    let table = table.only(&["between", "dimensions", "reason"])?;
    let file = table.file;
    let value = table.require("between")?;
    let between = file.list(value, |v| file.endpoint(v, roles))?;
    let Ok(mut between) = <[Endpoint; 2]>::try_from(between) else {
        return file.refuse(value.span(), "between must name two sides".into());
    };
    between.sort();
    let value = table.require("dimensions")?;
    let dimensions: BTreeSet<_> = file
        .list(value, |v| file.pair_dimension(v))?
        .into_iter()
        .collect();
    if dimensions.is_empty() {
        return file.refuse(
            value.span(),
            "dimensions must name at least one dimension".into(),
        );
    }
    let reason = file.string(table.require("reason")?)?.to_owned();
    Ok(Share {
        between,
        dimensions,
        reason,
    })
}

fn allow(table: Table<'_, '_>, roles: &BTreeSet<&str>) -> Result<Allow, PolicyError> {
    let table = table.only(&["rule", "subject", "object", "dimension", "reason"])?;
    let file = table.file;
    let rule = file.named(table.require("rule")?, "rule", RuleId::ALL)?;
    let subject = file.endpoint(table.require("subject")?, roles)?;
    let object = table
        .get("object")
        .map(|value| file.endpoint(value, roles))
        .transpose()?;
    let dimension = table.get("dimension");
    let dimension = dimension
        .map(|value| file.named(value, "dimension", Dimension::ALL))
        .transpose()?;
    let reason = file.string(table.require("reason")?)?.to_owned();
    Ok(Allow {
        rule,
        subject,
        object,
        dimension,
        reason,
    })
}

/// A table and where it stands.
struct Table<'f, 't> {
    file: &'f File<'t>,
    span: Range<usize>,
    entries: &'f DeTable<'t>,
}

impl<'f, 't> Table<'f, 't> {
    /// Refuses the first key, in order of the text, that is not one of these.
    fn only(self, known: &[&str]) -> Result<Self, PolicyError> {
        self.only_or(known, |_| false)
    }

    fn only_or(self, known: &[&str], more: impl Fn(&str) -> bool) -> Result<Self, PolicyError> {
        let foreign = |name: &str| !known.contains(&name) && !more(name);
        let wrong = self.entries.keys().filter(|name| foreign(name.get_ref()));
        match wrong.min_by_key(|name| name.span().start) {
            Some(name) => {
                self.file
                    .unknown(name.span(), "key", name.get_ref(), known.iter().copied())
            }
            None => Ok(self),
        }
    }

    fn get(&self, key: &str) -> Option<&'f Value<'t>> {
        self.entries.get(key)
    }

    fn require(&self, key: &str) -> Result<&'f Value<'t>, PolicyError> {
        let missing = || {
            self.file
                .error(self.span.clone(), format!("key \"{key}\" is missing"))
        };
        self.get(key).ok_or_else(missing)
    }
}

/// The text and its name, for errors.
struct File<'t> {
    text: &'t str,
    origin: &'t str,
}

impl<'t> File<'t> {
    fn error(&self, span: Range<usize>, message: String) -> PolicyError {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        PolicyError {
            origin: self.origin.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message,
        }
    }

    fn refuse<T>(&self, span: Range<usize>, message: String) -> Result<T, PolicyError> {
        Err(self.error(span, message))
    }

    fn unknown<'k, T>(
        &self,
        span: Range<usize>,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> Result<T, PolicyError> {
        let known: Vec<&str> = known.into_iter().collect();
        let name: String = name
            .chars()
            .take(64)
            .collect::<String>()
            .escape_debug()
            .collect();
        let known = match known[..] {
            [] => "none is defined".to_owned(),
            _ => format!("known: {}", known.join(", ")),
        };
        self.refuse(span, format!("unknown {what} \"{name}\" ({known})"))
    }

    fn mismatch<T>(&self, value: &Value<'_>, wanted: &str) -> Result<T, PolicyError> {
        let found = value.get_ref().type_str();
        self.refuse(value.span(), format!("expected {wanted}, found {found}"))
    }

    fn table<'f>(&'f self, value: &'f Value<'t>) -> Result<Table<'f, 't>, PolicyError> {
        match value.get_ref() {
            DeValue::Table(entries) => Ok(Table {
                file: self,
                span: value.span(),
                entries,
            }),
            _ => self.mismatch(value, "a table"),
        }
    }

    /// An array of tables, `[[name]]`.
    fn entries<'f, T>(
        &'f self,
        value: Option<&'f Value<'t>>,
        read: impl Fn(Table<'f, 't>) -> Result<T, PolicyError>,
    ) -> Result<Vec<T>, PolicyError> {
        let Some(value) = value else {
            return Ok(Vec::new());
        };
        let DeValue::Array(items) = value.get_ref() else {
            return self.mismatch(value, "an array of tables (double brackets)");
        };
        if items.len() > limits::ENTRIES {
            return self.refuse(
                value.span(),
                format!("more than {} entries", limits::ENTRIES),
            );
        }
        items.iter().map(|item| read(self.table(item)?)).collect()
    }

    fn list<'f, T>(
        &'f self,
        value: &'f Value<'t>,
        read: impl Fn(&'f Value<'t>) -> Result<T, PolicyError>,
    ) -> Result<Vec<T>, PolicyError> {
        let DeValue::Array(items) = value.get_ref() else {
            return self.mismatch(value, "a list");
        };
        if items.len() > limits::ITEMS {
            return self.refuse(value.span(), format!("more than {} items", limits::ITEMS));
        }
        items.iter().map(read).collect()
    }

    fn string<'f>(&self, value: &'f Value<'t>) -> Result<&'f str, PolicyError> {
        let Some(text) = value.get_ref().as_str() else {
            return self.mismatch(value, "a string");
        };
        self.bounded(value.span(), text)?;
        Ok(text)
    }

    fn bounded(&self, span: Range<usize>, text: &str) -> Result<(), PolicyError> {
        match text.len() {
            0 => self.refuse(span, "must not be empty".into()),
            n if n > limits::STRING_BYTES => {
                self.refuse(span, format!("longer than {} bytes", limits::STRING_BYTES))
            }
            _ => Ok(()),
        }
    }

    /// A glob; a whole number stands for itself.
    fn pattern(&self, value: &Value<'t>) -> Result<String, PolicyError> {
        match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => {
                Ok(number.as_str().trim_start_matches('+').to_owned())
            }
            DeValue::String(_) => Ok(self.string(value)?.to_owned()),
            _ => self.mismatch(value, "a string"),
        }
    }

    /// A kind is one of three: a pattern that matches none is a typing error.
    fn kind_pattern(&self, value: &Value<'t>, pattern: &str) -> Result<(), PolicyError> {
        let kinds = [EntityKind::Host, EntityKind::Container, EntityKind::Vm].map(kind_name);
        if kinds.iter().any(|kind| super::glob::matches(pattern, kind)) {
            return Ok(());
        }
        self.unknown(value.span(), "kind", pattern, kinds)
    }

    fn named<T: Copy + ToString>(
        &self,
        value: &Value<'t>,
        what: &str,
        known: &[T],
    ) -> Result<T, PolicyError> {
        let given = self.string(value)?;
        let names: Vec<String> = known.iter().map(T::to_string).collect();
        match names.iter().position(|name| name == given) {
            Some(at) => Ok(known[at]),
            None => self.unknown(value.span(), what, given, names.iter().map(String::as_str)),
        }
    }

    fn pair_dimension(&self, value: &Value<'t>) -> Result<Dimension, PolicyError> {
        self.named(
            value,
            "dimension",
            &crate::model::isolation::PAIR_DIMENSIONS,
        )
    }

    fn capability(&self, value: &Value<'t>) -> Result<u8, PolicyError> {
        let given = self.string(value)?;
        match capability::parse(given) {
            Some(bit) => Ok(bit),
            None => self.unknown(value.span(), "capability", given, capability::NAMES),
        }
    }

    fn endpoint(&self, value: &Value<'t>, roles: &BTreeSet<&str>) -> Result<Endpoint, PolicyError> {
        match self.string(value)? {
            "host" => Ok(Endpoint::Host),
            text => match text.strip_prefix("role:") {
                None => Ok(Endpoint::Id(text.to_owned())),
                Some(role) if roles.contains(role) => Ok(Endpoint::Role(role.to_owned())),
                Some(role) => self.unknown(value.span(), "role", role, roles.iter().copied()),
            },
        }
    }

    /// Refuses the second of two roles with one name.
    fn unique(&self, value: Option<&Value<'t>>, roles: &[Role]) -> Result<(), PolicyError> {
        let mut seen = BTreeSet::new();
        let Some(at) = roles.iter().position(|role| !seen.insert(&role.name)) else {
            return Ok(());
        };
        let items = value.and_then(|value| value.get_ref().as_array());
        let span = items
            .and_then(|items| items.get(at))
            .map_or(0..0, name_span);
        self.refuse(span, format!("role \"{}\" is named twice", roles[at].name))
    }
}

fn name_span(role: &Value<'_>) -> Range<usize> {
    let name = role
        .get_ref()
        .as_table()
        .and_then(|table| table.get("name"));
    name.map_or_else(|| role.span(), Spanned::span)
}
