//! A whole query: SELECT, FROM, WHERE and GROUP BY, and what goes with what.
//!
//! May not enter: how expressions are read.

use super::aggregate::Aggregate;
use super::cursor::Mark;
use super::expression::Expression;
use super::grouping::{Grouping, Member, Source};
use super::lexer::Token;
use super::parser::Parser;
use super::path::Path;
use super::{Collection, Column, InvalidQuery, Query, Selection};

/// A member of the select list as it is written.
struct Item {
    at: Mark,
    alias: Option<String>,
    what: What,
}

enum What {
    Path(Path),
    Aggregate(Aggregate),
}

pub fn query(mut parser: Parser<'_>) -> Result<Query, InvalidQuery> {
    parser.cursor.keyword("SELECT")?;
    let top = top(&mut parser)?;
    let listed = parser.cursor.mark();
    select_list(&mut parser)?;
    parser.collection = collection(&mut parser)?;
    // What the paths of the list mean is known only behind it.
    let behind = parser.cursor.mark();
    parser.cursor.back_to(listed);
    let items = select_list(&mut parser)?;
    parser.cursor.back_to(behind);

    if parser.collection == Collection::Jobs && items.is_some() {
        let what = "devices.jobs are selected whole: SELECT *";
        return Err(parser.cursor.invalid_at(listed, what));
    }
    let filter = filter(&mut parser)?;
    let grouped = parser.cursor.mark();
    let by = group_by(&mut parser)?;
    if *parser.cursor.peek() != Token::End {
        let wanted = match (&filter, &by) {
            (_, Some(_)) => "`,` or the end",
            (Some(_), None) => "an operator, GROUP BY or the end",
            (None, None) => "WHERE, GROUP BY or the end",
        };
        return Err(parser.cursor.expected(wanted));
    }
    let selection = match (items, by) {
        (None, None) => Selection::Everything,
        (None, Some(_)) => {
            let what = "SELECT * cannot be grouped";
            return Err(parser.cursor.invalid_at(grouped, what));
        }
        (Some(items), by) => selection(&parser, items, by)?,
    };
    Ok(Query {
        collection: parser.collection,
        top,
        selection,
        filter,
    })
}

/// `TOP 5`; a column may have that name as well.
fn top(parser: &mut Parser<'_>) -> Result<Option<u64>, InvalidQuery> {
    let Token::Number(number) = parser.cursor.peek_second() else {
        return Ok(None);
    };
    let number = number.as_u64();
    if !parser.cursor.skip_word("top") {
        return Ok(None);
    }
    let number = number.ok_or_else(|| parser.cursor.expected("a whole number"))?;
    parser.cursor.skip(1);
    Ok(Some(number))
}

/// `None` for `*`.
fn select_list(parser: &mut Parser<'_>) -> Result<Option<Vec<Item>>, InvalidQuery> {
    if parser.cursor.skip_symbol("*") {
        return Ok(None);
    }
    let mut items = vec![item(parser)?];
    while parser.cursor.skip_symbol(",") {
        items.push(item(parser)?);
    }
    Ok(Some(items))
}

fn item(parser: &mut Parser<'_>) -> Result<Item, InvalidQuery> {
    let at = parser.cursor.mark();
    let what = match aggregate(parser)? {
        Some(aggregate) => What::Aggregate(aggregate),
        None => What::Path(parser.path("*, a path or an aggregate")?),
    };
    let alias = match parser.cursor.skip_word("as") {
        true => Some(parser.cursor.name("a name")?),
        false => None,
    };
    Ok(Item { at, alias, what })
}

fn aggregate(parser: &mut Parser<'_>) -> Result<Option<Aggregate>, InvalidQuery> {
    let cursor = &parser.cursor;
    let Some(word) = cursor.word().filter(|_| cursor.second_is_symbol("(")) else {
        return Ok(None);
    };
    let make = match word.to_ascii_uppercase().as_str() {
        "COUNT" => None,
        "SUM" => Some(Aggregate::Sum as fn(Path) -> Aggregate),
        "AVG" => Some(Aggregate::Average as _),
        "MIN" => Some(Aggregate::Least as _),
        "MAX" => Some(Aggregate::Greatest as _),
        _ => {
            let what = "only COUNT, SUM, AVG, MIN and MAX can be selected";
            return Err(cursor.invalid(what));
        }
    };
    parser.cursor.skip(2);
    let aggregate = match make {
        None if parser.cursor.is_symbol(")") => Aggregate::Count,
        None => Aggregate::CountDefined(parser.path("a path or `)`")?),
        Some(make) => make(parser.path("a path")?),
    };
    parser.cursor.symbol(")")?;
    Ok(Some(aggregate))
}

/// `FROM devices`, `devices.modules` or `devices.jobs`.
fn collection(parser: &mut Parser<'_>) -> Result<Collection, InvalidQuery> {
    let cursor = &mut parser.cursor;
    cursor.keyword("FROM")?;
    if !cursor.skip_word("devices") {
        return Err(cursor.expected("devices, devices.modules or devices.jobs"));
    }
    if !cursor.skip_symbol(".") {
        return Ok(Collection::Devices);
    }
    if cursor.skip_word("modules") {
        return Ok(Collection::Modules);
    }
    cursor
        .keyword("jobs")
        .map_err(|_| cursor.expected("modules or jobs"))?;
    Ok(Collection::Jobs)
}

fn filter(parser: &mut Parser<'_>) -> Result<Option<Expression>, InvalidQuery> {
    if !parser.cursor.skip_word("where") {
        return Ok(None);
    }
    let at = parser.cursor.mark();
    let condition = parser.condition()?;
    let mut of_twins = None;
    condition.each_path(&mut |path| {
        if path.leads_into_a_twin() {
            of_twins = path.last_name().map(ToOwned::to_owned);
        }
    });
    match of_twins {
        Some(name) if parser.collection == Collection::Jobs => {
            let what = format!("`{name}` is of a twin, and devices.jobs has none of these");
            Err(parser.cursor.invalid_at(at, what))
        }
        _ => Ok(Some(condition)),
    }
}

fn group_by(parser: &mut Parser<'_>) -> Result<Option<Vec<Path>>, InvalidQuery> {
    if !parser.cursor.skip_word("group") {
        return Ok(None);
    }
    parser.cursor.keyword("BY")?;
    let mut by = vec![parser.path("a path")?];
    while parser.cursor.skip_symbol(",") {
        let path = parser.path("a path")?;
        // Each group keeps a copy of what stands there.
        if !by.contains(&path) {
            by.push(path);
        }
    }
    Ok(Some(by))
}

fn selection(
    parser: &Parser<'_>,
    items: Vec<Item>,
    by: Option<Vec<Path>>,
) -> Result<Selection, InvalidQuery> {
    let aggregates = items
        .iter()
        .any(|item| matches!(item.what, What::Aggregate(_)));
    let grouped = aggregates || by.is_some();
    let by = by.unwrap_or_default();
    let (mut columns, mut members, mut unnamed) = (Vec::new(), Vec::new(), 0);
    for Item { at, alias, what } in items {
        match what {
            What::Aggregate(aggregate) => {
                let name = alias.unwrap_or_else(|| {
                    unnamed += 1;
                    format!("${unnamed}")
                });
                let source = Source::Aggregate(aggregate);
                members.push(Member { name, source });
            }
            What::Path(path) => {
                let name = alias.or_else(|| path.last_name().map(ToOwned::to_owned));
                let name = name.unwrap_or_default();
                if !grouped {
                    columns.push(Column { name, path });
                    continue;
                }
                let place = by.iter().position(|group| *group == path).ok_or_else(|| {
                    let what =
                        "beside aggregates and groups only what is grouped by can be selected";
                    parser.cursor.invalid_at(at, what)
                })?;
                let source = Source::Group(place);
                members.push(Member { name, source });
            }
        }
    }
    Ok(match grouped {
        true => Selection::Groups(Grouping { by, members }.into()),
        false => Selection::Columns(columns),
    })
}
