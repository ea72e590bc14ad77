//! Writes the CustomResourceDefinitions as YAML: one file per kind into the directory given,
//! and into `cdi` beside it; or all to standard output.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let of_others = directory.as_ref().map(|one| one.with_file_name("cdi"));
    let ours = crds::definitions().into_iter().map(|one| (one, &directory));
    let others = crds::definitions_of_others().into_iter().map(|one| (one, &of_others));
    for (definition, directory) in ours.chain(others) {
        let yaml = serde_norway::to_string(&definition)?;
        let name = definition.metadata.name.as_deref().unwrap_or("unnamed");
        match directory {
            Some(directory) => std::fs::write(directory.join(format!("{name}.yaml")), yaml)?,
            None => println!("---\n{yaml}"),
        }
    }
    Ok(())
}
