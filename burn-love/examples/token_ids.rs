//! Prints the token ids of each line of stdin, padded: for a comparison with other tokenizers.
//!
//! ```text
//! cargo run --release -p burn-love --example token_ids -- tokenizer.json 25 < expressions.txt
//! ```

use std::{
    error::Error,
    io::{BufRead, Write},
};

use burn_love::preprocess::Tokenizer;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(length)) = (arguments.next(), arguments.next()) else {
        return Err("expected a tokenizer.json and a count of tokens".into());
    };
    let tokenizer = Tokenizer::from_json(&std::fs::read(path)?)?;
    let length = length.parse()?;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let ids: Vec<String> = tokenizer
            .encode(&line?, length)?
            .ids
            .iter()
            .map(ToString::to_string)
            .collect();
        writeln!(out, "{}", ids.join(" "))?;
    }
    Ok(())
}
