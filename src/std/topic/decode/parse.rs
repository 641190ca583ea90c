//! Reading `ros2msg` definitions.

use std::collections::HashMap;

use super::super::schema::short_name;
use super::{Format, FormatError, Kind, MAX_DEPTH, MAX_FIELDS, MAX_SIZE, MAX_TYPES, Member, Number, Shape, Type};

/// What a definition says about one field, before other types are looked up.
struct Line<'t> {
    line: usize,
    type_name: &'t str,
    count: Option<usize>,
    name: &'t str,
}

/// The lines of one type.
struct Section<'t> {
    name: String,
    line: usize,
    fields: Vec<Line<'t>>,
}

pub(super) fn parse(name: &str, definition: &str) -> Result<Format, FormatError> {
    let sections = sections(name, definition)?;
    let mut by_name = HashMap::new();
    for (at, section) in sections.iter().enumerate() {
        if by_name.insert(section.name.as_str(), at).is_some() {
            return Err(wrong(section.line, format!("type {} is defined twice", section.name)));
        }
    }
    let mut resolver =
        Resolver { sections: &sections, by_name, types: Vec::new(), done: vec![State::New; sections.len()] };
    resolver.resolve(0, 0)?;
    let mut types = resolver.types;
    // The message's own name, as it was given.
    if let Some(root) = types.last_mut() {
        root.name = name.into();
    }
    Ok(Format { types })
}

fn sections<'t>(name: &str, definition: &'t str) -> Result<Vec<Section<'t>>, FormatError> {
    let mut sections = vec![Section { name: short_name(name), line: 1, fields: Vec::new() }];
    let mut fields = 0;
    let mut lines = definition.lines().enumerate().map(|(at, text)| (at + 1, text));
    while let Some((line, text)) = lines.next() {
        let text = text.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        if text.len() >= 3 && text.bytes().all(|byte| byte == b'=') {
            let head = lines.next().map_or("", |(_, text)| text.trim());
            let name = head
                .strip_prefix("MSG:")
                .map(str::trim)
                .ok_or_else(|| wrong(line + 1, "`MSG: package/Type` must follow a line of `=`".into()))?;
            if sections.len() == MAX_TYPES {
                return Err(wrong(line, format!("more than {MAX_TYPES} types")));
            }
            sections.push(Section { name: short_name(name), line: line + 1, fields: Vec::new() });
            continue;
        }
        let Some(field) = field(line, text)? else { continue };
        fields += 1;
        if fields > MAX_FIELDS {
            return Err(wrong(line, format!("more than {MAX_FIELDS} fields")));
        }
        sections.last_mut().expect("there is a first one").fields.push(field);
    }
    Ok(sections)
}

/// Reads `type name`, with or without a default; `None` for a constant.
fn field(line: usize, text: &str) -> Result<Option<Line<'_>>, FormatError> {
    let (field_type, rest) = text
        .split_once(char::is_whitespace)
        .ok_or_else(|| wrong(line, format!("`{}` is no field: a type and a name are expected", cut(text))))?;
    let rest = rest.trim_start();
    let name = &rest[..rest.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(rest.len())];
    if rest[name.len()..].trim_start().starts_with('=') {
        return Ok(None);
    }
    if !is_identifier(name) {
        return Err(wrong(line, format!("`{}` is no name of a field", cut(name))));
    }
    let (type_name, array) = field_type.split_at(field_type.find('[').unwrap_or(field_type.len()));
    let refuse = |what: &str| {
        Err(wrong(line, format!("`{}` has no fixed length, because {what}: only plain messages are read", cut(name))))
    };
    if type_name.starts_with("string") || type_name.starts_with("wstring") {
        return refuse("strings differ in length");
    }
    if !type_name.split('/').all(is_identifier) {
        return Err(wrong(line, format!("`{}` is no name of a type", cut(type_name))));
    }
    let count = match array.strip_prefix('[').map(|array| array.strip_suffix(']').unwrap_or("?")) {
        None => None,
        Some("") => return refuse("its arrays differ in length"),
        Some(bound) if bound.starts_with("<=") => return refuse("its arrays differ in length up to a bound"),
        Some(count) => match count.parse::<usize>() {
            Ok(count) if (1..=MAX_SIZE).contains(&count) => Some(count),
            _ => return Err(wrong(line, format!("`{}` is no length of an array", cut(array)))),
        },
    };
    Ok(Some(Line { line, type_name, count, name }))
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    /// Its fields are being looked up: whoever needs it now contains itself.
    Open,
    /// Its place in `types`.
    Done(usize),
}

struct Resolver<'t> {
    sections: &'t [Section<'t>],
    by_name: HashMap<&'t str, usize>,
    types: Vec<Type>,
    done: Vec<State>,
}

impl Resolver<'_> {
    /// Lays out section `at` and those it needs; returns its place in `types`.
    fn resolve(&mut self, at: usize, depth: usize) -> Result<usize, FormatError> {
        let section = &self.sections[at];
        match self.done[at] {
            State::Done(place) => return Ok(place),
            State::Open => return Err(wrong(section.line, format!("type {} contains itself", section.name))),
            State::New => {}
        }
        if depth == MAX_DEPTH {
            return Err(wrong(section.line, format!("types are nested more than {MAX_DEPTH} deep")));
        }
        self.done[at] = State::Open;
        let mut laid_out = Type { name: section.name.clone(), fields: Vec::new(), size: 0, align: 1 };
        let mut names = std::collections::HashSet::new();
        for Line { line, type_name, count, name } in &section.fields {
            if !names.insert(*name) {
                return Err(wrong(*line, format!("field `{name}` is there twice")));
            }
            let (kind, size, align) = match number(type_name) {
                Some(number) => (Kind::Number(number), number.size(), number.size()),
                None => {
                    let target = self
                        .find(&section.name, type_name)
                        .ok_or_else(|| wrong(*line, format!("type {} of `{name}` is not defined", cut(type_name))))?;
                    let place = self.resolve(target, depth + 1)?;
                    let of = &self.types[place];
                    (Kind::Struct(place), of.size, of.align)
                }
            };
            if laid_out.size % align != 0 {
                return Err(wrong(
                    *line,
                    format!(
                        "`{name}` would begin at byte {} after implicit padding, of which plain messages have none: a \
                         field such as `uint8[N] pad` before it must name those bytes",
                        laid_out.size.next_multiple_of(align)
                    ),
                ));
            }
            if count.is_some_and(|count| count > 1) && size % align != 0 {
                return Err(wrong(*line, format!("the elements of `{name}` would have implicit padding between them")));
            }
            let end = size.checked_mul(count.unwrap_or(1)).and_then(|size| size.checked_add(laid_out.size));
            let end = end
                .filter(|end| *end <= MAX_SIZE)
                .ok_or_else(|| wrong(*line, format!("with `{name}` a message is larger than {MAX_SIZE} bytes")))?;
            let shape = Shape { kind, count: *count };
            laid_out.fields.push(Member { name: (*name).into(), shape, offset: laid_out.size });
            laid_out.size = end;
            laid_out.align = laid_out.align.max(align);
        }
        if laid_out.fields.is_empty() {
            return Err(wrong(section.line, format!("type {} has no fields", section.name)));
        }
        let place = self.types.len();
        self.types.push(laid_out);
        self.done[at] = State::Done(place);
        Ok(place)
    }

    /// The section of a type that is named within another: `package/Type`, `package/msg/Type`, or `Type` of the same
    /// package.
    fn find(&self, within: &str, type_name: &str) -> Option<usize> {
        let found = |name: &str| self.by_name.get(name).copied();
        let sibling = || Some(format!("{}/{type_name}", within.rsplit_once('/')?.0));
        let header = || (type_name == "Header").then(|| found("std_msgs/Header")).flatten();
        match type_name.contains('/') {
            true => found(&short_name(type_name)),
            false => sibling().and_then(|name| found(&name)).or_else(|| found(type_name)).or_else(header),
        }
    }
}

fn number(name: &str) -> Option<Number> {
    Some(match name {
        "bool" => Number::Bool,
        "byte" | "uint8" => Number::U8,
        "char" => Number::Char,
        "int8" => Number::I8,
        "uint16" => Number::U16,
        "int16" => Number::I16,
        "uint32" => Number::U32,
        "int32" => Number::I32,
        "uint64" => Number::U64,
        "int64" => Number::I64,
        "float32" => Number::F32,
        "float64" => Number::F64,
        _ => return None,
    })
}

fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn wrong(line: usize, reason: String) -> FormatError {
    FormatError::Definition { line, reason }
}

/// Enough of a stranger's text to find the place.
fn cut(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_default).collect()
}
