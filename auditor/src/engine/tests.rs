//! The engine under test: examples by hand, and random histories against an oracle.

mod calls;
mod chain;
mod confinement;
mod danger;
mod escalation;
mod examples;
mod files;
mod grants;
mod handles;
mod kernel;
mod knobs;
mod lines;
mod machine;
mod mounts;
mod oracle;
mod own;
mod privileges;
mod properties;
mod reach;
mod reaching;
mod sharing;
mod silence;
mod sim;
mod tampering;
mod transfers;
mod what_if;
