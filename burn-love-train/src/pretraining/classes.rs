//! Labels of classes: which training shows, and what it never shows together.

use super::task::index_of;
use crate::synth::{Attribute, Class, Shape, Surface, Unnamed};

/// Classes that training scenes show: there are columns for them alone, so that nothing is learned of the others.
pub fn seen_classes() -> Vec<Class> {
    let all = Shape::ALL.iter().flat_map(|shape| {
        let class = |surface: &Surface| Class {
            shape: *shape,
            surface: *surface,
        };
        Surface::ALL.iter().map(class)
    });
    all.filter(|class| !class.is_held_out()).collect()
}

/// The columns of a class's shape and surface, but for what has no name.
pub fn class_columns(class: Class, unnamed: Option<Unnamed>) -> [Option<usize>; 2] {
    let named = |attribute| unnamed.is_none_or(|unnamed| unnamed.keeps(attribute));
    [
        index_of(Shape::ALL, &class.shape).filter(|_| named(Attribute::Shape)),
        index_of(Surface::ALL, &class.surface).filter(|_| named(Attribute::Surface)),
    ]
}

/// The columns of shapes, and of surfaces, that no training scene shows together with a class's surface, and with its shape,
/// as far as these have names.
///
/// They are left out of its losses: a disc is not to be learned as what cannot be where there are checks.
pub fn never_with(class: Class, unnamed: Option<Unnamed>) -> [Vec<usize>; 2] {
    let [shape, surface] = class_columns(class, unnamed);
    let others = || Class::HELD_OUT.into_iter().filter(move |other| *other != class);
    let shapes = others().filter(|other| surface.is_some() && other.surface == class.surface);
    let surfaces = others().filter(|other| shape.is_some() && other.shape == class.shape);
    [
        shapes
            .filter_map(|other| index_of(Shape::ALL, &other.shape))
            .collect(),
        surfaces
            .filter_map(|other| index_of(Surface::ALL, &other.surface))
            .collect(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_out_is_no_choice_and_what_has_no_name_has_no_column() {
        let class = Class {
            shape: Shape::Square,
            surface: Surface::Checker,
        };
        // Held out: a checkered disc and star, and a dotted square.
        assert_eq!(class_columns(class, None), [Some(1), Some(3)]);
        assert_eq!(never_with(class, None), [vec![0, 3], vec![2]]);
        let without = |attribute| Some(Unnamed { attribute, seed: 0 });
        assert_eq!(class_columns(class, without(Attribute::Surface)), [Some(1), None]);
        assert_eq!(class_columns(class, without(Attribute::Shape)), [None, Some(3)]);
        assert_eq!(never_with(class, without(Attribute::Shape)), [vec![0, 3], vec![]]);
        assert_eq!(never_with(class, without(Attribute::Surface)), [vec![], vec![2]]);
        // A held-out class is itself a choice.
        let disc = Class {
            shape: Shape::Disc,
            ..class
        };
        assert_eq!(never_with(disc, None), [vec![3], vec![]]);
    }
}
