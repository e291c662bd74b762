//! Where in a module a parameter sits.

/// Names and containers of the modules on the way to a parameter, kept by a visitor or mapper.
#[derive(Default)]
pub struct ParameterPath {
    steps: Vec<(String, String)>,
}

impl ParameterPath {
    /// Goes into a field.
    pub fn enter(&mut self, name: &str, container_type: &str) {
        self.steps.push((name.to_owned(), container_type.to_owned()));
    }

    /// Leaves the last field.
    pub fn exit(&mut self) {
        self.steps.pop();
    }

    /// The names, joined by dots.
    pub fn dotted(&self) -> String {
        let names: Vec<&str> = self.steps.iter().map(|(name, _)| name.as_str()).collect();
        names.join(".")
    }

    /// Whether the parameter is a matrix that PyTorch stores transposed.
    pub fn is_transposed<const D: usize>(&self) -> bool {
        let container = self.steps.last().map(|(_, container)| container.as_str());
        D == 2 && container == Some("Struct:Linear")
    }
}
