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

/// The columns of shapes that no training scene shows together with a class's surface, and of surfaces, the first of which has
/// the column `surfaces`, that none shows with its shape; as far as these have names.
///
/// They are left out of its losses: a disc is not to be learned as what cannot be where there are checks.
pub fn never_with(class: Class, unnamed: Option<Unnamed>, surfaces: usize) -> impl Iterator<Item = usize> {
    let [shape, surface] = class_columns(class, unnamed);
    let others = || Class::HELD_OUT.into_iter().filter(move |other| *other != class);
    let of_surface = others().filter(move |other| surface.is_some() && other.surface == class.surface);
    let of_shape = others().filter(move |other| shape.is_some() && other.shape == class.shape);
    of_surface
        .filter_map(|other| index_of(Shape::ALL, &other.shape))
        .chain(of_shape.filter_map(move |other| Some(surfaces + index_of(Surface::ALL, &other.surface)?)))
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
        let never = |class, unnamed| -> Vec<usize> { never_with(class, unnamed, 10).collect() };
        // Held out: a checkered disc and star, and a dotted square.
        assert_eq!(class_columns(class, None), [Some(1), Some(3)]);
        assert_eq!(never(class, None), [0, 3, 10 + 2]);
        let without = |attribute| Some(Unnamed { attribute, seed: 0 });
        assert_eq!(class_columns(class, without(Attribute::Surface)), [Some(1), None]);
        assert_eq!(class_columns(class, without(Attribute::Shape)), [None, Some(3)]);
        assert_eq!(never(class, without(Attribute::Shape)), [0, 3]);
        assert_eq!(never(class, without(Attribute::Surface)), [10 + 2]);
        // A held-out class is itself a choice.
        let disc = Class {
            shape: Shape::Disc,
            ..class
        };
        assert_eq!(never(disc, None), [3]);
    }
}
