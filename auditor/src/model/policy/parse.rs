//! Reading a policy text.
use super::{Policy, PolicyError};
pub(super) fn policy(_text: &str, _origin: &str) -> Result<Policy, PolicyError> {
    Ok(Policy::default())
}
