//! The blocks as the store has them, by name and by subnet: what is asked of one
//! subnet costs as much as that subnet has, however many others there are.

use std::collections::{BTreeMap, BTreeSet};

use crds::ledger::AddressBlock;

use super::asked;

/// Blocks by name; `by_subnet` follows.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    by_name: BTreeMap<String, AddressBlock>,
    by_subnet: BTreeMap<String, BTreeSet<String>>,
}

impl Blocks {
    pub(super) fn get(&self, name: &str) -> Option<&AddressBlock> {
        self.by_name.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &AddressBlock)> {
        self.by_name.iter().inspect(|(_, block)| asked::note(&block.spec.subnet))
    }

    /// Those of one subnet.
    pub(super) fn of(&self, subnet: &str) -> impl Iterator<Item = (&String, &AddressBlock)> {
        asked::note(subnet);
        let names = self.by_subnet.get(subnet).into_iter().flatten();
        names.filter_map(|name| self.by_name.get_key_value(name))
    }

    /// The subnets of which there are blocks.
    pub(super) fn subnets(&self) -> impl Iterator<Item = &str> {
        self.by_subnet.keys().map(String::as_str)
    }

    /// Puts in a block; returns what it takes the place of.
    pub(super) fn insert(&mut self, name: String, block: AddressBlock) -> Option<AddressBlock> {
        // A block made by hand may change its subnet.
        let before = self.remove(&name);
        self.by_subnet.entry(block.spec.subnet.clone()).or_default().insert(name.clone());
        self.by_name.insert(name, block);
        before
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<AddressBlock> {
        let block = self.by_name.remove(name)?;
        if let Some(names) = self.by_subnet.get_mut(&block.spec.subnet) {
            names.remove(name);
            if names.is_empty() {
                self.by_subnet.remove(&block.spec.subnet);
            }
        }
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use crds::ledger::AddressBlockSpec;

    use super::*;

    fn block(subnet: &str) -> AddressBlock {
        let first = "10.0.0.0".parse().unwrap();
        let (held, resting) = (BTreeMap::new(), BTreeMap::new());
        AddressBlock::new("b", AddressBlockSpec { subnet: subnet.to_owned(), first, held, resting })
    }

    fn of(blocks: &Blocks, subnet: &str) -> Vec<String> {
        blocks.of(subnet).map(|(name, _)| name.clone()).collect()
    }

    #[test]
    fn a_block_is_found_under_the_subnet_that_it_now_says_and_no_other() {
        let mut blocks = Blocks::default();
        assert!(blocks.insert("b".to_owned(), block("one")).is_none());
        blocks.insert("c".to_owned(), block("one"));
        assert_eq!(of(&blocks, "one"), ["b", "c"]);
        assert_eq!(blocks.insert("b".to_owned(), block("two")).unwrap().spec.subnet, "one");
        assert_eq!((of(&blocks, "one"), of(&blocks, "two")), (vec!["c".into()], vec!["b".into()]));
        blocks.remove("c");
        assert_eq!(blocks.subnets().collect::<Vec<_>>(), ["two"]);
        assert_eq!(blocks.iter().count(), 1);
    }
}
