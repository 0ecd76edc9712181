//! How the text of a manifest is laid out.

use std::io::{Result, Write};

use serde_json::ser::{Formatter, PrettyFormatter};

/// Objects and arrays from this depth on stand in one line: those inside of `entries`.
const ONE_LINE: usize = 3;

/// Indents by one space, but keeps each entry in one line, which in a dump of many steps saves a quarter of the bytes.
pub(crate) struct Lines {
    pretty: PrettyFormatter<'static>,
    depth: usize,
}

impl Lines {
    pub(crate) fn new() -> Self {
        Lines { pretty: PrettyFormatter::with_indent(b" "), depth: 0 }
    }

    fn is_in_line(&self) -> bool {
        self.depth >= ONE_LINE
    }

    fn separate<W: ?Sized + Write>(writer: &mut W, first: bool) -> Result<()> {
        if first { Ok(()) } else { writer.write_all(b",") }
    }
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.depth += 1;
        if self.is_in_line() { writer.write_all(b"[") } else { self.pretty.begin_array(writer) }
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        let ended = if self.is_in_line() { writer.write_all(b"]") } else { self.pretty.end_array(writer) };
        self.depth -= 1;
        ended
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        if self.is_in_line() {
            Self::separate(writer, first)
        } else {
            self.pretty.begin_array_value(writer, first)
        }
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        if self.is_in_line() { Ok(()) } else { self.pretty.end_array_value(writer) }
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.depth += 1;
        if self.is_in_line() { writer.write_all(b"{") } else { self.pretty.begin_object(writer) }
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        let ended = if self.is_in_line() { writer.write_all(b"}") } else { self.pretty.end_object(writer) };
        self.depth -= 1;
        ended
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        if self.is_in_line() {
            Self::separate(writer, first)
        } else {
            self.pretty.begin_object_key(writer, first)
        }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        if self.is_in_line() { writer.write_all(b":") } else { self.pretty.begin_object_value(writer) }
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        if self.is_in_line() { Ok(()) } else { self.pretty.end_object_value(writer) }
    }
}
