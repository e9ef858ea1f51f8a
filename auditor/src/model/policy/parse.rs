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
    let mut root = Table::new(&file, document.span(), document.get_ref());
    let mut policy = Policy::default();
    if let Some(value) = root.take("defaults") {
        defaults(file.table(value)?, &mut policy)?;
    }
    let roles = root.take("role");
    policy.roles = file.entries(roles, role)?;
    file.unique(roles, &policy.roles)?;
    let names: BTreeSet<&str> = policy.roles.iter().map(|role| role.name.as_str()).collect();
    policy.shares = file.entries(root.take("share"), |table| share(table, &names))?;
    policy.allows = file.entries(root.take("allow"), |table| allow(table, &names))?;
    root.finish()?;
    Ok(policy)
}

fn defaults(mut table: Table<'_, '_>, policy: &mut Policy) -> Result<(), PolicyError> {
    let file = table.file;
    if let Some(value) = table.take("required") {
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
    if let Some(value) = table.take("privilege_gain") {
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
    table.finish()
}

fn role(mut table: Table<'_, '_>) -> Result<Role, PolicyError> {
    let file = table.file;
    let name = file.string(table.require("name")?)?;
    let matcher = matcher(file.table(table.require("match")?)?)?;
    let capabilities = table
        .take("capabilities")
        .map(|value| file.list(value, |v| file.capability(v)));
    let capabilities = capabilities
        .transpose()?
        .map(|bits| bits.into_iter().fold(0, |mask, bit| mask | 1 << bit));
    table.finish()?;
    Ok(Role {
        name: name.to_owned(),
        matcher,
        capabilities,
    })
}

fn matcher(mut table: Table<'_, '_>) -> Result<Matcher, PolicyError> {
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
        let Some(value) = table.take(key) else {
            continue;
        };
        let pattern = file.pattern(value)?;
        if key == "kind" {
            file.kind_pattern(value, &pattern)?;
        }
        matcher.fields.insert(key.to_owned(), pattern);
    }
    if let Some(value) = table.take("label") {
        let labels = file.table(value)?;
        labels_below(&labels, "", &mut matcher.labels)?;
    }
    // A quoted key, "label.app.kubernetes.io/name", stands for the label behind its first dot.
    for (key, value) in table.take_prefixed("label.") {
        file.bounded(value.span(), key)?;
        matcher.labels.insert(key.to_owned(), file.pattern(value)?);
    }
    table.finish_with(&["label.NAME"])?;
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

fn share(mut table: Table<'_, '_>, roles: &BTreeSet<&str>) -> Result<Share, PolicyError> {
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
    table.finish()?;
    Ok(Share {
        between,
        dimensions,
        reason,
    })
}

fn allow(mut table: Table<'_, '_>, roles: &BTreeSet<&str>) -> Result<Allow, PolicyError> {
    let file = table.file;
    let rule = file.named(table.require("rule")?, "rule", RuleId::ALL)?;
    let subject = file.endpoint(table.require("subject")?, roles)?;
    let object = table
        .take("object")
        .map(|value| file.endpoint(value, roles))
        .transpose()?;
    let dimension = table.take("dimension");
    let dimension = dimension
        .map(|value| file.named(value, "dimension", Dimension::ALL))
        .transpose()?;
    let reason = file.string(table.require("reason")?)?.to_owned();
    table.finish()?;
    Ok(Allow {
        rule,
        subject,
        object,
        dimension,
        reason,
    })
}

/// A table of which every key must be taken.
struct Table<'f, 't> {
    file: &'f File<'t>,
    span: Range<usize>,
    entries: &'f DeTable<'t>,
    taken: BTreeSet<&'f str>,
    /// Keys that were asked for: what a wrong one could have been.
    asked: Vec<&'static str>,
}

impl<'f, 't> Table<'f, 't> {
    fn new(file: &'f File<'t>, span: Range<usize>, entries: &'f DeTable<'t>) -> Self {
        Self {
            file,
            span,
            entries,
            taken: BTreeSet::new(),
            asked: Vec::new(),
        }
    }

    fn take(&mut self, key: &'static str) -> Option<&'f Value<'t>> {
        self.asked.push(key);
        let (name, value) = self
            .entries
            .iter()
            .find(|(name, _)| name.get_ref() == key)?;
        self.taken.insert(name.get_ref());
        Some(value)
    }

    fn take_prefixed(&mut self, prefix: &str) -> Vec<(&'f str, &'f Value<'t>)> {
        let with_prefix = |(name, value): (&'f Spanned<_>, _)| {
            let name: &'f std::borrow::Cow<'t, str> = name.get_ref();
            Some((name.as_ref(), name.strip_prefix(prefix)?, value))
        };
        let found: Vec<_> = self.entries.iter().filter_map(with_prefix).collect();
        self.taken.extend(found.iter().map(|(name, ..)| name));
        found
            .into_iter()
            .map(|(_, rest, value)| (rest, value))
            .collect()
    }

    fn require(&mut self, key: &'static str) -> Result<&'f Value<'t>, PolicyError> {
        let span = self.span.clone();
        self.take(key)
            .ok_or_else(|| self.file.error(span, format!("key \"{key}\" is missing")))
    }

    fn finish(self) -> Result<(), PolicyError> {
        self.finish_with(&[])
    }

    /// Refuses the first key, in order of the text, that nobody asked for.
    fn finish_with(mut self, more: &[&'static str]) -> Result<(), PolicyError> {
        self.asked.extend(more);
        let foreign = |name: &&Spanned<_>| {
            let name: &std::borrow::Cow<'_, str> = name.get_ref();
            !self.taken.contains(name.as_ref())
        };
        match self
            .entries
            .keys()
            .filter(foreign)
            .min_by_key(|name| name.span().start)
        {
            Some(name) => self
                .file
                .unknown(name.span(), "key", name.get_ref(), self.asked),
            None => Ok(()),
        }
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
        self.refuse(
            span,
            format!("unknown {what} \"{name}\" (known: {})", known.join(", ")),
        )
    }

    fn mismatch<T>(&self, value: &Value<'_>, wanted: &str) -> Result<T, PolicyError> {
        let found = value.get_ref().type_str();
        self.refuse(value.span(), format!("expected {wanted}, found {found}"))
    }

    fn table<'f>(&'f self, value: &'f Value<'t>) -> Result<Table<'f, 't>, PolicyError> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(Table::new(self, value.span(), table)),
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
