//! The runtime isolation auditor as a library.
