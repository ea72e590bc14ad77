//! Writes the CustomResourceDefinitions as YAML: one file per kind into the
//! directory given, or all to standard output.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    for definition in crds::definitions() {
        let yaml = serde_norway::to_string(&definition)?;
        let name = definition.metadata.name.as_deref().unwrap_or("unnamed");
        match &directory {
            Some(directory) => std::fs::write(directory.join(format!("{name}.yaml")), yaml)?,
            None => println!("---\n{yaml}"),
        }
    }
    Ok(())
}
