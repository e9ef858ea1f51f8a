//! Names of executed files. A machine runs the same few programs again and again, so each name is kept once.

use crate::model::text;
use hashbrown::HashMap;
use std::ffi::CStr;
use std::sync::Arc;

/// Names kept. When there are more, all are forgotten; whoever has one keeps it.
const MAX_NAMES: usize = 4096;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Names {
    /// What the kernel wrote → what it is called.
    known: HashMap<Box<[u8]>, Arc<str>>,
}

impl Names {
    /// The name in a NUL-padded kernel string, as text.
    pub fn name(&mut self, padded: &[u8]) -> Arc<str> {
        let bytes = CStr::from_bytes_until_nul(padded).map_or(padded, CStr::to_bytes);
        if let Some(name) = self.known.get(bytes) {
            return name.clone();
        }
        let name: Arc<str> = Arc::from(text::escape(bytes));
        if self.known.len() >= MAX_NAMES {
            self.known.clear();
        }
        self.known.insert(bytes.into(), name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name is what the kernel wrote up to its end, is kept once, and as many as come do not add up.
    #[test]
    fn names_are_kept_once() {
        let mut names = Names::default();
        let first = names.name(b"/bin/sh\0\0junk");
        assert_eq!(&*first, "/bin/sh");
        assert!(Arc::ptr_eq(&first, &names.name(b"/bin/sh\0")));
        assert_eq!(&*names.name(b"/bin/\xff"), "/bin/\\xff");
        for n in 0..2 * MAX_NAMES {
            names.name(n.to_string().as_bytes());
            assert!(names.known.len() <= MAX_NAMES);
        }
        assert_eq!(names.name(b"/bin/sh"), first);
    }
}
