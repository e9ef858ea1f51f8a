//! Why two entities are (not) isolated: one pair of a scan, dimension by dimension.

use super::explain::pair_class;
use super::scan::{ScanEntity, ScanReport};
use super::words::{self, pad};
use crate::model::{Dimension, NsKind, Verdict};
use crate::sink::human::{Paint, Style, printable};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Why no entity can be named so.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    /// Nobody.
    #[error("no entity \"{name}\" in this scan (known: {known})")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Who is there, shortened.
        known: String,
    },
    /// Several.
    #[error("\"{name}\" is ambiguous in this scan: {candidates}")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Their ids.
        candidates: String,
    },
    /// Twice the same.
    #[error("\"{a}\" and \"{b}\" are the same entity")]
    Same {
        /// One name.
        a: String,
        /// The other.
        b: String,
    },
    /// The host, where a container is meant.
    #[error("\"{0}\" is not a container")]
    Host(String),
}

/// Explains a pair. Entities are named by id, by name, or by the start of an id (with or without its
/// runtime).
///
/// # Errors
/// When a name stands for nobody, or for several.
pub fn explain(scan: &ScanReport, a: &str, b: &str, style: Style) -> Result<String, NameError> {
    let (x, y) = (find(scan, a)?, find(scan, b)?);
    if x.id == y.id {
        return Err(NameError::Same {
            a: a.to_owned(),
            b: b.to_owned(),
        });
    }
    let mut out = String::new();
    headline(scan, x, y, style, &mut out);
    dimensions(scan, x, y, style, &mut out);
    Ok(out)
}

/// Whom a name stands for.
///
/// # Errors
/// When that is nobody, or several.
pub fn find<'a>(scan: &'a ScanReport, name: &str) -> Result<&'a ScanEntity, NameError> {
    let tests: [fn(&ScanEntity, &str) -> bool; 3] = [
        |e, name| e.id == name,
        |e, name| e.name.as_deref() == Some(name),
        |e, name| {
            let bare = e.id.split_once(':').map_or(e.id.as_str(), |(_, bare)| bare);
            !name.is_empty() && (e.id.starts_with(name) || bare.starts_with(name))
        },
    ];
    for test in tests {
        let found: Vec<&ScanEntity> = scan.entities.iter().filter(|e| test(e, name)).collect();
        match found.as_slice() {
            [] => {}
            [one] => return Ok(one),
            several => {
                let ids: Vec<String> = several.iter().map(|e| e.id.clone()).collect();
                let candidates = words::names(&ids);
                return Err(NameError::Ambiguous {
                    name: name.to_owned(),
                    candidates,
                });
            }
        }
    }
    let known: Vec<String> = scan.entities.iter().map(|e| scan.name_of(&e.id)).collect();
    Err(NameError::Unknown {
        name: name.to_owned(),
        known: words::names(&known),
    })
}

// Writing to a String cannot fail, here and below.
fn headline(scan: &ScanReport, x: &ScanEntity, y: &ScanEntity, style: Style, out: &mut String) {
    let answer = match scan.iota(&x.id, &y.id) {
        Some(0) => style.paint(Paint::Bad, "not isolated (ι = 0)"),
        Some(_) => style.paint(Paint::Good, "isolated (ι = 1)"),
        None => style.paint(Paint::Warn, "not known to be isolated (ι = null)"),
    };
    let _ = writeln!(
        out,
        "{} and {} are {answer}.",
        scan.name_of(&x.id),
        scan.name_of(&y.id)
    );
    for entity in [x, y] {
        let _ = writeln!(out, "  {}", printable(&entity.id));
    }
    if let Some(pair) = scan.pair(&x.id, &y.id) {
        let _ = writeln!(out, "They are {}.", pair_class(pair.class));
    }
    let _ = writeln!(
        out,
        "Scanned at {} on {}; the claim is structural.\n",
        printable(&scan.time),
        printable(&scan.node)
    );
}

fn dimensions(scan: &ScanReport, x: &ScanEntity, y: &ScanEntity, style: Style, out: &mut String) {
    let mut said = BTreeSet::new();
    let listed = scan.pair(&x.id, &y.id).map_or(&[][..], |p| &p.dimensions);
    for d in listed {
        said.insert(d.dimension);
        let severity = match d.verdict {
            Verdict::Isolated | Verdict::NotEvaluated => String::new(),
            _ => format!(" ({})", d.severity),
        };
        let why = d.witness.as_ref().map_or_else(String::new, |w| {
            format!(
                ": {} [{}]",
                printable(&w.message),
                words::evidence(&w.object)
            )
        });
        let meaning = match d.verdict {
            Verdict::Violated
            | Verdict::Degraded
            | Verdict::DeclaredShared
            | Verdict::BaselineShared => {
                format!("; {}", words::dimension(d.dimension))
            }
            Verdict::Isolated | Verdict::NotEvaluated | Verdict::Unknown => String::new(),
        };
        row(
            out,
            d.dimension,
            &words::verdict(d.verdict, style),
            &format!("{severity}{why}{meaning}"),
        );
    }
    for (kind, ns) in &x.namespaces {
        let dimension = kind.dimension();
        let Some(other) = y.namespaces.get(kind) else {
            continue;
        };
        if kind.object_kind() != *kind || !said.insert(dimension) {
            continue;
        }
        if ns.inum == other.inum {
            // Not listed and yet the same object: the scan reports it under `shared`.
            let what = words::ns_kind(*kind);
            let text = format!(
                ": both are in {what} {}; {}",
                ns.inum,
                words::dimension(dimension)
            );
            row(
                out,
                dimension,
                &style.paint(Paint::Dim, &pad("shared", 15)),
                &text,
            );
        } else {
            let text = format!(": {} against {}", different(*kind, ns.inum), other.inum);
            row(
                out,
                dimension,
                &words::verdict(Verdict::Isolated, style),
                &text,
            );
        }
    }
    for dimension in scan.not_evaluated.iter().filter(|d| !said.contains(d)) {
        row(
            out,
            *dimension,
            &words::verdict(Verdict::NotEvaluated, style),
            ": nothing looks at this here",
        );
    }
    let _ = writeln!(out, "\nDimensions that are not listed had nothing to say.");
}

fn different(kind: NsKind, inum: u32) -> String {
    format!("{} {inum}", words::ns_kind(kind))
}

fn row(out: &mut String, dimension: Dimension, verdict: &str, text: &str) {
    let _ = writeln!(out, "  {} {verdict}{text}", pad(dimension.as_str(), 16));
}

#[cfg(test)]
mod tests {
    use super::{NameError, explain};
    use crate::report::scan::tests::sample;
    use crate::sink::human::Style;

    /// Goal: the answer first, then each dimension with its object, listed or not.
    #[test]
    fn explains_a_violated_pair() {
        let text = explain(&sample(), "web", "runc:db", Style::Plain).unwrap();
        assert!(
            text.starts_with("web and db are not isolated (ι = 0).\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "net              violated        (high): both are in network namespace 9"
            ),
            "{text}"
        );
        assert!(
            text.contains("user             shared         : both are in user namespace 7"),
            "{text}"
        );
        assert!(text.contains("references       not_evaluated"), "{text}");
    }

    /// Goal: a pair that the scan does not list is explained from its namespaces.
    #[test]
    fn explains_an_isolated_pair() {
        let text = explain(&sample(), "web", "lone", Style::Plain).unwrap();
        assert!(
            text.starts_with("web and lone are isolated (ι = 1).\n"),
            "{text}"
        );
        assert!(text.contains("network namespace 9 against 10"), "{text}");
    }

    /// Goal: a wrong name is answered with the right ones.
    #[test]
    fn names_are_checked() {
        let scan = sample();
        let unknown = explain(&scan, "wbe", "host", Style::Plain).unwrap_err();
        assert!(
            unknown.to_string().contains("host, db, lone, web"),
            "{unknown}"
        );
        let ambiguous = explain(&scan, "runc:", "host", Style::Plain).unwrap_err();
        assert!(
            matches!(ambiguous, NameError::Ambiguous { .. }),
            "{ambiguous}"
        );
        let same = explain(&scan, "web", "runc:web", Style::Plain).unwrap_err();
        assert!(matches!(same, NameError::Same { .. }), "{same}");
        assert!(explain(&scan, "lo", "host", Style::Plain).is_ok());
    }
}
