//! Docker Engine's own record of a container, `config.v2.json`.
//!
//! Docker leaves no annotations in the OCI spec: the name, image and labels that its users know stand only
//! here. Pure; format of Docker 1.10 to 27.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::oci::{ParseError, json};

/// What Docker's record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerConfig {
    /// Full container id.
    pub id: String,
    /// Name without the leading `/`.
    pub name: Option<String>,
    /// Image reference as given to `docker run`.
    pub image: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Init's pid; `None` when stopped.
    pub pid: Option<u32>,
}

const DOCKER_CONFIG: &str = "docker config.v2.json";

/// Parses `config.v2.json`.
///
/// # Errors
/// When it is not such a file or holds no id.
pub fn parse_docker_config(bytes: &[u8]) -> Result<DockerConfig, ParseError> {
    let wire: Wire = json(DOCKER_CONFIG, bytes)?;
    if wire.id.is_empty() {
        return Err(ParseError::Missing {
            format: DOCKER_CONFIG,
            field: "ID",
        });
    }
    let name = wire
        .name
        .map(|name| name.trim_start_matches('/').to_owned());
    Ok(DockerConfig {
        id: wire.id,
        name: name.filter(|name| !name.is_empty()),
        image: wire.config.image.filter(|image| !image.is_empty()),
        labels: wire.config.labels.unwrap_or_default(),
        pid: u32::try_from(wire.state.pid).ok().filter(|pid| *pid > 0),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    #[serde(default, rename = "ID")]
    id: String,
    name: Option<String>,
    #[serde(default)]
    config: ConfigWire,
    #[serde(default)]
    state: StateWire,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ConfigWire {
    image: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct StateWire {
    pid: i64,
}

#[cfg(test)]
mod tests {
    //! Goal: Docker's record is read, anything else is an error. Method: one record and arbitrary bytes.

    use proptest::prelude::*;

    use super::*;

    const WEB: &[u8] =
        include_bytes!("../../../tests/fixtures/inventory/docker/web.config.v2.json");

    #[test]
    fn a_compose_container() {
        let config = parse_docker_config(WEB).unwrap();
        assert_eq!(config.name.as_deref(), Some("shop-web-1"));
        assert_eq!(config.image.as_deref(), Some("nginx:1.27"));
        assert_eq!(config.labels["com.docker.compose.project"], "shop");
        assert_eq!(config.pid, Some(4242));
        assert_eq!(config.id.len(), 64);
    }

    #[test]
    fn other_files_are_errors() {
        assert!(parse_docker_config(b"{}").is_err());
        assert!(parse_docker_config(b"[]").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse_docker_config(&bytes);
        }
    }
}
