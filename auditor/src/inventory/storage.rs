//! The container list of containers/storage, which Podman, CRI-O and Buildah share.
//!
//! Podman's names stand in its database and here, and nowhere in the OCI spec. The list is one JSON file
//! per storage root (`overlay-containers/containers.json`). Pure; format of containers/storage 1.50 to
//! 1.56.

use serde::Deserialize;

use super::oci::{ParseError, json};

/// One container of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredContainer {
    /// Full container id.
    pub id: String,
    /// Name.
    pub name: Option<String>,
    /// Image reference.
    pub image: Option<String>,
}

/// Parses `containers.json`. Entries without an id are left out.
///
/// # Errors
/// When it is not such a list.
pub fn parse_containers(bytes: &[u8]) -> Result<Vec<StoredContainer>, ParseError> {
    let wires: Option<Vec<Wire>> = json("containers/storage containers.json", bytes)?;
    let entries = wires
        .unwrap_or_default()
        .into_iter()
        .filter(|wire| !wire.id.is_empty());
    Ok(entries.map(Wire::into_container).collect())
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    id: String,
    names: Option<Vec<String>>,
    metadata: Option<String>,
}

/// JSON inside a JSON string, written by the tool that made the container.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct MetadataWire {
    image_name: Option<String>,
    name: Option<String>,
}

impl Wire {
    fn into_container(self) -> StoredContainer {
        // Other tools put other things here; then only the name is known.
        let metadata: MetadataWire = self
            .metadata
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let first = self.names.unwrap_or_default().into_iter().next();
        StoredContainer {
            id: self.id,
            name: metadata.name.filter(|name| !name.is_empty()).or(first),
            image: metadata.image_name.filter(|image| !image.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: Podman's names are found. Method: one list with odd entries, and arbitrary bytes.

    use proptest::prelude::*;

    use super::*;

    const LIST: &[u8] = include_bytes!("../../../tests/fixtures/inventory/podman/containers.json");

    #[test]
    fn a_list_with_odd_entries() {
        let found = parse_containers(LIST).unwrap();
        let brief: Vec<_> = found
            .iter()
            .map(|c| (c.name.as_deref(), c.image.as_deref()))
            .collect();
        let nginx = Some("docker.io/library/nginx:1.27");
        assert_eq!(brief, [(Some("web"), nginx), (Some("buildah-1"), None)]);
        assert_eq!(parse_containers(b"null").unwrap(), []);
        assert!(parse_containers(b"{}").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse_containers(&bytes);
        }
    }
}
