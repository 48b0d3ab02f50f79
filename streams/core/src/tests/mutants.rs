//! Known bugs put back in: what shows each of them here must stay able to.

use std::string::String;
use std::vec::Vec;

use super::scenario::red_scenarios;
use crate::rules::{Mutant, Rules};

fn red(mutant: Option<Mutant>) -> Vec<String> {
    red_scenarios(Rules { mutant, ..Rules::default() })
}

#[test]
fn each_known_bug_is_found() {
    assert_eq!(red(None), Vec::<String>::new());
    for (mutant, title) in [
        (Mutant::FailureOverwritesSuccess, "a text beats a failure of any generation"),
        (Mutant::EarlyFinish, "not due while a segment waits; a failure ends its wait"),
        (Mutant::LostLateUpload, "a chunk after the finalize makes a new revision, closed by idling anew"),
    ] {
        let red = red(Some(mutant));
        assert!(
            red.iter().any(|scenario| scenario.contains(title)),
            "{mutant:?} is not found by {title:?}: {red:#?}"
        );
    }
}
