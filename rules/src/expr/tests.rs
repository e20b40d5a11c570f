//! Claims about the language, as tables: an expression, and what it gives over [`world`].

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn world() -> Value {
    json!({
        "amount": 120, "rate": 0.5, "whole": 2.0, "name": "Ada", "ok": true, "nothing": null, "empty": [],
        "big": 9_223_372_036_854_775_807_i64, "huge": 18_446_744_073_709_551_615_u64,
        "user": {"id": "u1", "tier": "gold", "age": 36, "in": 1, "first-name": "Ada", "none": null},
        "items": [{"sku": "a", "qty": 2, "price": 1.5}, {"sku": "b", "qty": 1, "price": 10}],
        "tags": ["x", "y"], "word": "gr\u{fc}n",
    })
}

fn evaluate(text: &str, budget: &mut Budget) -> Result<Value, ExprError> {
    Expr::parse(text)?.evaluate(&Scope::over(&world()), budget)
}

#[track_caller]
fn check(table: &[(&str, Value)]) {
    for (text, expected) in table {
        match evaluate(text, &mut Budget::default()) {
            // Compared as text, so that 1 and 1.0 differ.
            Ok(value) => assert_eq!(value.to_string(), expected.to_string(), "{text}"),
            Err(error) => panic!("{text}: {error} at {}:{}", error.line, error.column),
        }
    }
}

#[track_caller]
fn refuse(table: &[(&str, &str)]) {
    for (text, expected) in table {
        match evaluate(text, &mut Budget::default()) {
            Ok(value) => panic!("{text} gave {value}"),
            Err(error) => assert_eq!(format!("{}:{}: {error}", error.line, error.column), *expected, "{text}"),
        }
    }
}

#[test]
fn literals_are_what_they_say() {
    check(&[
        ("1", json!(1)),
        ("0x1F", json!(31)),
        ("7u", json!(7)),
        ("18446744073709551615u", json!(u64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("1.5", json!(1.5)),
        (".5", json!(0.5)),
        ("2e3", json!(2000.0)),
        ("-1.5e-2", json!(-0.015)),
        ("'a' + \"b\"", json!("ab")),
        (r#"'\n\t\\\'\"\x41\u00e9\U0001F600\101'"#, json!("\n\t\\'\"A\u{e9}\u{1f600}A")),
        (r"r'\d+'", json!("\\d+")),
        ("'''it's\n\"two\" lines'''", json!("it's\n\"two\" lines")),
        ("\"\"\"a\"b\"\"\"", json!("a\"b")),
        ("[1, 2.0, 'x', null, true,]", json!([1, 2.0, "x", null, true])),
        ("{'a': 1, 'b': {'c': []},}", json!({"a": 1, "b": {"c": []}})),
        ("1 // the rest is a comment", json!(1)),
        ("// first\n 2", json!(2)),
    ]);
}

#[test]
fn operators_bind_as_in_cel() {
    check(&[
        ("1 + 2 * 3", json!(7)),
        ("(1 + 2) * 3", json!(9)),
        ("10 - 3 - 2", json!(5)),
        ("2 * 3 % 4", json!(2)),
        ("-2 + 3", json!(1)),
        ("- -2", json!(2)),
        ("!!ok", json!(true)),
        ("1 + 1 == 2 && 3 > 2", json!(true)),
        ("false && false || true", json!(true)),
        ("true || false && false", json!(true)),
        ("true ? 1 : false ? 2 : 3", json!(1)),
        ("false ? 1 : false ? 2 : 3", json!(3)),
        ("1 in [1] == true", json!(true)),
        ("-amount", json!(-120)),
        ("1 - 1", json!(0)),
        ("1-1", json!(0)),
    ]);
}

#[test]
fn arithmetic_promotes_and_is_checked() {
    check(&[
        ("7 / 2", json!(3)),
        ("-7 / 2", json!(-3)),
        ("-7 % 2", json!(-1)),
        ("7 / 2.0", json!(3.5)),
        ("amount * rate", json!(60.0)),
        ("amount + whole", json!(122.0)),
        ("1u + 2", json!(3)),
        ("huge - 1", json!(u64::MAX - 1)),
        ("tags + ['z']", json!(["x", "y", "z"])),
        ("big - 1", json!(i64::MAX - 1)),
    ]);
    refuse(&[
        ("big + 1", "1:5: the result is out of range"),
        ("-(-9223372036854775808)", "1:1: the result is out of range"),
        ("huge * huge", "1:6: the result is out of range"),
        ("1u - 2", "1:4: the result is out of range"),
        ("big * big", "1:5: the result is out of range"),
        ("1e308 * 10.0", "1:7: the result is out of range"),
        ("1 / 0", "1:3: division by zero"),
        ("1 % 0", "1:3: division by zero"),
        ("1.0 / 0", "1:5: division by zero"),
        ("5.0 % 2", "1:5: `%` takes whole numbers, not a double"),
        ("-9223372036854775808 / -1", "1:22: the result is out of range"),
        ("'a' + 1", "1:5: `+` does not take string and int"),
        ("user - 1", "1:6: `-` does not take map and int"),
        ("-name", "1:1: `-` does not take string"),
        ("!1", "1:2: expected true or false, found int"),
    ]);
}

#[test]
fn comparisons_are_exact_across_kinds_of_number() {
    check(&[
        ("1 == 1.0", json!(true)),
        ("1 == '1'", json!(false)),
        ("1 != '1'", json!(true)),
        ("null == false", json!(false)),
        ("nothing == null", json!(true)),
        ("[1, 2.0] == [1.0, 2]", json!(true)),
        ("{'a': 1} == {'a': 1.0}", json!(true)),
        ("{'a': 1} == {'b': 1}", json!(false)),
        ("user == user", json!(true)),
        // 2^63 - 1 and 2^63 are one double; as exact numbers they are two.
        ("big < 9223372036854775808.0", json!(true)),
        ("big == 9223372036854775808.0", json!(false)),
        ("huge > big", json!(true)),
        ("huge < 1e20", json!(true)),
        ("-1e20 < 0u", json!(true)),
        ("2 < 2.5", json!(true)),
        ("-2 > -2.5", json!(true)),
        ("3 >= 3u", json!(true)),
        ("'a' < 'b'", json!(true)),
        ("'Z' < 'a'", json!(true)),
        ("false < true", json!(true)),
    ]);
    refuse(&[
        ("1 < 'a'", "1:3: `<` does not take int and string"),
        ("null >= 1", "1:6: `>=` does not take null and int"),
        ("[1] < [2]", "1:5: `<` does not take list and list"),
    ]);
}

#[test]
fn a_decided_side_absorbs_the_error_of_the_other() {
    check(&[
        ("missing && false", json!(false)),
        ("false && missing", json!(false)),
        ("missing || true", json!(true)),
        ("true || 1 / 0 > 0", json!(true)),
        ("1 / 0 > 0 || 'a' > 1 || true", json!(true)),
        ("[1, 'a', 0].exists(x, x < 1)", json!(true)),
        ("[1, 'a', 9].all(x, x < 5)", json!(false)),
    ]);
    refuse(&[
        ("missing && true", "1:1: there is no `missing`"),
        ("false || missing", "1:10: there is no `missing`"),
        ("1 && true", "1:1: expected true or false, found int"),
        ("[1, 'a'].exists(x, x < 1)", "1:22: `<` does not take string and int"),
    ]);
}

#[test]
fn fields_and_elements() {
    check(&[
        ("user.tier", json!("gold")),
        ("user['tier']", json!("gold")),
        ("user.in", json!(1)),
        ("user.`first-name`", json!("Ada")),
        ("user[\"first-name\"]", json!("Ada")),
        ("items[1].sku", json!("b")),
        ("items[whole - 1.0].sku", json!("b")),
        ("{'a': [1, 2]}.a[1]", json!(2)),
        ("[1, 2, 3][0]", json!(1)),
        ("user[tags[0] == 'x' ? 'id' : 'tier']", json!("u1")),
        ("'tier' in user", json!(true)),
        ("'none' in user", json!(true)),
        ("1 in user", json!(false)),
        ("2.0 in [1, 2]", json!(true)),
        ("{'k': 1} in [{'k': 1.0}]", json!(true)),
    ]);
    refuse(&[
        ("user.nme", "1:5: `user` has no field `nme`"),
        ("user.none.x", "1:10: `user.none` is null, so it has no `x`"),
        ("name.x", "1:5: a string has no fields, so no `x`"),
        ("items[2]", "1:6: the index is outside the list of 2"),
        ("items[-1]", "1:6: the index is outside the list of 2"),
        ("items[0.5]", "1:6: a list is indexed by a number, not by double"),
        ("user[1]", "1:5: a map is indexed by a string, not by int"),
        ("nothing[0]", "1:8: null has no elements"),
        ("amount[0]", "1:7: a int cannot be indexed"),
        ("1 in 'abc'", "1:3: `in` looks into a list or a map, not into string"),
        ("{'a': 1, 'a': 2}", "1:10: the key `a` is given twice"),
        ("{1: 2}", "1:2: a key is a string, not int"),
    ]);
}

#[test]
fn what_may_be_missing() {
    check(&[
        ("has(user.tier)", json!(true)),
        ("has(user.nme)", json!(false)),
        ("has(user.none)", json!(true)),
        ("has(gone.a)", json!(false)),
        ("has(user.none.x)", json!(false)),
        ("has(gone.a.b.c)", json!(false)),
        ("has(user['tier'])", json!(true)),
        ("has(items[7].sku)", json!(false)),
        ("default(user.tier, 'none')", json!("gold")),
        ("default(user.nme, 'none')", json!("none")),
        ("default(user.none, 'none')", json!("none")),
        ("default(gone.a.b, 1) + 1", json!(2)),
        ("default(items[9], null)", json!(null)),
        ("default(default(a, b), 3)", json!(3)),
    ]);
    refuse(&[
        ("has(name.x)", "1:1: a string has no fields, so no `x`"),
        ("has(name)", "1:5: `has` asks about a field, as in has(a.b)"),
        ("default(1 / 0, 1)", "1:11: division by zero"),
    ]);
}

#[test]
fn macros_walk_lists_and_the_keys_of_maps() {
    check(&[
        ("items.all(i, i.qty > 0)", json!(true)),
        ("items.exists(i, i.sku == 'b')", json!(true)),
        ("items.exists_one(i, i.qty > 1)", json!(true)),
        ("items.map(i, i.qty * i.price)", json!([3.0, 10])),
        ("items.map(i, i.qty > 1, i.sku)", json!(["a"])),
        ("items.filter(i, i.price > 2).map(i, i.sku)", json!(["b"])),
        ("user.filter(k, k.startsWith('t'))", json!(["tier"])),
        ("user.exists(k, user[k] == 36)", json!(true)),
        ("empty.all(x, false)", json!(true)),
        ("empty.exists(x, true)", json!(false)),
        ("[[1, 2], [3]].map(l, l.map(x, x + size(l)))", json!([[3, 4], [4]])),
        // The inner name hides the outer, and the element hides a name of the scope.
        ("[1].map(x, [2].map(x, x))", json!([[2]])),
        ("[1].map(amount, amount)", json!([1])),
    ]);
    refuse(&[
        ("name.all(c, true)", "1:6: a string has no elements to walk"),
        ("items.map(i, i.nme)", "1:15: `i` has no field `nme`"),
        ("items.all(i, 1)", "1:14: expected true or false, found int"),
        ("items.all(1, true)", "1:11: the first argument of `all` is a name for the element"),
        ("items.all(true)", "1:7: `all` takes 2 arguments, not 1"),
        ("items.map(i)", "1:7: `map` takes 2 or 3 arguments, not 1"),
    ]);
}

#[test]
fn functions_and_conversions() {
    check(&[
        ("size(word)", json!(4)),
        ("items.size()", json!(2)),
        ("size(user)", json!(6)),
        ("'banana'.contains('nan')", json!(true)),
        ("name.startsWith('A') && name.endsWith('a')", json!(true)),
        ("'order-17'.matches('[0-9]+$')", json!(true)),
        ("matches(name, '^a')", json!(false)),
        ("matches(name, '(?i)^a')", json!(true)),
        ("string(1) + string(1.0) + string(true) + string('x')", json!("11.0truex")),
        ("int('42') + int(2.9) + int(-2.9)", json!(42)),
        ("uint('7')", json!(7)),
        ("double('1.5') + double(1)", json!(2.5)),
        ("bool('true') && !bool('0')", json!(true)),
        ("min(3, 1.5, 2)", json!(1.5)),
        ("max([1, 3, 2])", json!(3)),
        ("max('a', 'b')", json!("b")),
        ("min(items.map(i, i.qty))", json!(1)),
    ]);
    refuse(&[
        ("int('x')", "1:1: the string does not read as an int"),
        ("int(1e30)", "1:1: the number does not fit an int"),
        ("uint(-1)", "1:1: the number does not fit a uint"),
        ("double('inf')", "1:1: the string does not read as a double"),
        ("double('nan')", "1:1: the string does not read as a double"),
        ("bool('yes')", "1:1: the string does not read as a bool"),
        ("string([1])", "1:1: `string` does not take list"),
        ("size(1)", "1:1: `size` does not take int"),
        ("'a'.contains(1)", "1:5: `contains` takes strings, not string and int"),
        ("min([])", "1:1: `min` of an empty list"),
        ("max(1, 'a')", "1:1: `max` does not take string and int"),
        ("size(1, 2)", "1:1: `size` takes 1 argument, not 2"),
        ("name.matches(name)", "1:14: the pattern of `matches` must be a constant string"),
        ("name.matches('(')", "1:14: bad pattern: unclosed group"),
        ("name.matches('[a-z]{900}{900}')", "1:14: the pattern is too large when compiled"),
        ("amount.matches('1')", "1:8: `matches` takes a string, not int"),
    ]);
}

#[test]
fn syntax_errors_say_where_and_what() {
    let functions = CALLABLE_LIST;
    let unknown = format!("1:1: there is no function `frobnicate`, only {functions}");
    refuse(&[
        ("", "1:1: expected a value, found the end"),
        ("1 +", "1:4: expected a value, found the end"),
        ("(1", "1:3: expected `)`, found the end"),
        ("a b", "1:3: expected an operator or the end, found `b`"),
        ("a = 1", "1:3: unexpected character `=` (comparison is `==`)"),
        ("a & b", "1:3: unexpected character `&` (and is `&&`)"),
        ("ok &&\n  (1 + )", "2:8: expected a value, found `)`"),
        ("'gr\u{fc}n' + #", "1:10: unexpected character `#`"),
        ("'abc", "1:1: this string does not end"),
        ("'a\nb'", "1:1: this string does not end"),
        ("'\\q'", "1:2: this escape is not known in a string"),
        ("'\\ud800'", "1:2: this escape is not known in a string"),
        ("1.5x", "1:1: a number is followed by a letter"),
        ("0x", "1:1: this number is out of range"),
        ("9223372036854775808", "1:1: this number is out of range"),
        ("1e999", "1:1: this number is out of range"),
        ("1e", "1:1: this number has no digits in its exponent"),
        ("if", "1:1: `if` is a reserved word"),
        ("a.", "1:3: expected a field name, found the end"),
        ("a.`b", "1:3: a name that starts with ` does not end with `"),
        ("{'a' 1}", "1:6: expected `:`, found `1`"),
        ("a ? b", "1:6: expected `:`, found the end"),
        ("now()", "1:1: there is no function `now`: an expression gives the same answer whenever it runs"),
        ("name.containz('a')", "1:6: there is no function `containz`, did you mean `contains`?"),
        ("contains(name, 'a')", "1:1: `contains` is called the other way round, as a method or as a function"),
        ("frobnicate(1)", &unknown),
        ("b'bytes'", "1:2: expected an operator or the end, found `'bytes'`"),
    ]);
    assert!(matches!(Expr::parse("a b"), Err(ExprError { kind: ExprErrorKind::Syntax, .. })));
}

const CALLABLE_LIST: &str = "all, bool, contains, default, double, endsWith, exists, exists_one, filter, has, int, map, matches, max, min, \
                             size, startsWith, string, uint";

#[test]
fn size_and_nesting_of_the_text_are_bounded() {
    for (open, close) in [("(", ")"), ("[", "]"), ("{'a':", "}"), ("!", ""), ("-", ""), ("a?b:", "c"), ("size(", ")"), ("a[", "]")] {
        for depth in [EXPR_DEPTH_MAX + 1, 1_000] {
            let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let error = Expr::parse(&text).unwrap_err();
            assert_eq!(error.message, format!("the expression is nested deeper than {EXPR_DEPTH_MAX}"), "{open}");
        }
        assert!(Expr::parse(&open.repeat(3_000)).is_err());
    }
    for chain in ["a.b", "a + b", "a[0]"] {
        let link = &chain[1..];
        assert!(Expr::parse(&format!("a{}", link.repeat(EXPR_DEPTH_MAX - 1))).is_ok(), "{chain}");
        assert!(Expr::parse(&format!("a{}", link.repeat(EXPR_DEPTH_MAX))).is_err(), "{chain}");
    }
    // What CEL asks every implementation for: long chains of the same logical operator, long lists.
    assert!(Expr::parse(&format!("a{}", " || a".repeat(1_000))).is_ok());
    assert!(Expr::parse(&format!("[{}]", "1,".repeat(1_000))).is_ok());
    let parts = Expr::parse(&format!("[{}]", "1,".repeat(EXPR_NODES_MAX))).unwrap_err();
    assert_eq!(parts.message, format!("the expression has more than {EXPR_NODES_MAX} parts"));
    let long = Expr::parse(&" ".repeat(EXPR_TEXT_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(long.message, format!("the expression has {} bytes, more than {EXPR_TEXT_BYTES_MAX}", EXPR_TEXT_BYTES_MAX + 1));
}

#[test]
fn the_deepest_expression_fits_a_small_stack() {
    let text = format!("{}1{}", "[".repeat(EXPR_DEPTH_MAX - 1), "]".repeat(EXPR_DEPTH_MAX - 1));
    let thread = std::thread::Builder::new().stack_size(512 << 10);
    let run = thread.spawn(move || {
        let value = Expr::parse(&text).unwrap().evaluate(&Scope::new(), &mut Budget::default());
        value.map(|value| value.to_string().len())
    });
    assert_eq!(run.unwrap().join().unwrap().unwrap_err().message, "the value is nested too deep");
}

#[test]
fn no_value_is_nested_deeper_than_the_limit() {
    let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    let (fits, too_deep) = (nested(VALUE_DEPTH_MAX), nested(VALUE_DEPTH_MAX + 1));
    for (text, value, is_ok) in [("a", &fits, true), ("a", &too_deep, false), ("[a]", &fits, false), ("a == a", &too_deep, false)] {
        let value = json!({"a": value});
        let result = Expr::parse(text).unwrap().evaluate(&Scope::over(&value), &mut Budget::default());
        assert_eq!(result.is_ok(), is_ok, "{text}");
    }
    let value = json!({"a": fits});
    let wrapped = Template::compile(&json!(["${a}"])).unwrap().render(&Scope::over(&value), &mut Budget::default());
    assert_eq!(wrapped.unwrap_err().kind, ExprErrorKind::Exhausted);
}

#[test]
fn a_spent_budget_ends_the_evaluation_and_is_not_absorbed() {
    let expr = Expr::parse("list.exists(a, list.exists(b, a + b < 0)) || true").unwrap();
    let value = json!({"list": (0..1_000).collect::<Vec<_>>()});
    let mut budget = Budget::default();
    let error = expr.evaluate(&Scope::over(&value), &mut budget).unwrap_err();
    assert_eq!((error.kind, budget.steps), (ExprErrorKind::Exhausted, 0));
    assert_eq!(error.message, "the expression takes more steps than its budget allows");

    let mut budget = Budget { steps: 1_000, bytes: 20 };
    let error = evaluate("default('0123456789' + name, 'x') == 'x' || true", &mut budget).unwrap_err();
    assert_eq!((error.kind, budget.bytes), (ExprErrorKind::Exhausted, 0));
    assert_eq!(error.message, "the expression makes more bytes than its budget allows");

    // Doubling a text again and again is paid for as it grows.
    let text = (0..24).fold(format!("'{}'", "x".repeat(1_000)), |inner, _| format!("[{inner}].map(s, s + s)[0]"));
    assert_eq!(evaluate(&text, &mut Budget::default()).unwrap_err().kind, ExprErrorKind::Exhausted);

    // Searching long texts costs steps by their length.
    let value = json!({"text": "a".repeat(1 << 20), "list": (0..100).collect::<Vec<_>>()});
    let expr = Expr::parse("list.all(i, !text.contains('b'))").unwrap();
    assert_eq!(expr.evaluate(&Scope::over(&value), &mut Budget::default()).unwrap_err().kind, ExprErrorKind::Exhausted);
}

#[test]
fn a_payload_of_the_largest_size_passes_through_unchanged() {
    let value = json!({"text": "a".repeat(1 << 20)});
    assert_eq!(Expr::parse("text").unwrap().evaluate(&Scope::over(&value), &mut Budget::default()).unwrap(), value["text"]);
}

#[test]
fn set_names_come_before_members_and_records_are_maps() {
    let world = world();
    let one = json!(1);
    let mut scope = Scope::over(&world).with("amount", &one);
    let task = Binding::Record([("output", Binding::Value(&world["user"])), ("status", Binding::Text("completed"))].into());
    scope.bind("tasks", Binding::Record([("check-it", task)].into()));
    scope.bind("attempt", Binding::Integer(2));
    scope.bind("$source", Binding::Text("web"));
    for (text, expected) in [
        ("amount", json!(1)),
        ("rate", json!(0.5)),
        ("tasks['check-it'].output.tier", json!("gold")),
        ("tasks.`check-it`.status", json!("completed")),
        ("has(tasks.other)", json!(false)),
        ("'check-it' in tasks", json!(true)),
        ("size(tasks)", json!(1)),
        ("tasks.map(id, tasks[id].status)", json!(["completed"])),
        ("tasks == {'check-it': {'output': user, 'status': 'completed'}}", json!(true)),
        ("attempt + 1", json!(3)),
        ("$source", json!("web")),
        ("tasks", json!({"check-it": {"output": world["user"], "status": "completed"}})),
    ] {
        assert_eq!(Expr::parse(text).unwrap().evaluate(&scope, &mut Budget::default()), Ok(expected), "{text}");
    }
}

#[test]
fn references_are_the_names_that_are_read() {
    for (text, expected) in [
        ("a.b.c + a.b", vec!["a.b", "a.b.c"]),
        ("tasks['x.y'].output", vec!["tasks.x\\.y.output"]),
        ("items.map(i, i.qty + rate)", vec!["items", "rate"]),
        ("items.map(i, items.exists(j, j == i && k))", vec!["items", "k"]),
        ("has(a.b) ? default(c.d, e) : {'k': [f]}.k[g]", vec!["a.b", "c.d", "e", "f", "g"]),
        ("tasks[name].output", vec!["name", "tasks"]),
        ("-a + (b.matches('x') ? 1 : 0)", vec!["a", "b"]),
        ("a.b()", vec![]),
    ] {
        let references = Expr::parse(text).map(|expr| expr.references()).unwrap_or_default();
        assert_eq!(references, expected, "{text}");
    }
    let path = &Expr::parse("1 +\n  user.id").unwrap().paths()[0];
    assert_eq!((path.path.join("/"), path.line, path.column), ("user/id".to_owned(), 2, 3));
}

fn render(template: Value) -> Result<Value, ExprError> {
    Template::compile(&template)?.render(&Scope::over(&world()), &mut Budget::default())
}

#[test]
fn a_template_keeps_the_type_of_a_whole_expression_and_makes_text_of_the_rest() {
    let template = json!({
        "whole": "${user}", "number": "${ amount }", "text": "${name} pays ${amount} at ${rate} ${items[0]} ${nothing}",
        "list": ["${ok}", "plain", 7, null], "map": {"in": "${ {'a': {'b': '}'}}.a.b }"},
        "escaped": "$${name} costs $5 $", "both": "$${x}${name}", "quote": "${'}' + \"}\"}", "raw": "${r'\\'}",
    });
    let expected = json!({
        "whole": world()["user"], "number": 120, "text": "Ada pays 120 at 0.5 {\"price\":1.5,\"qty\":2,\"sku\":\"a\"} null",
        "list": [true, "plain", 7, null], "map": {"in": "}"},
        "escaped": "${name} costs $5 $", "both": "${x}Ada", "quote": "}}", "raw": "\\",
    });
    assert_eq!(render(template).unwrap(), expected);
}

#[test]
fn templates_say_what_they_read_and_whether_they_are_constant() {
    let template = Template::compile(&json!({"a": "${user.id} ${rate}", "b": ["${user.id}"], "c": "x"})).unwrap();
    assert_eq!(template.references(), ["rate", "user.id"]);
    assert!(!template.is_constant());
    let constant = Template::compile(&json!({"a": ["x", "$${y}"], "b": 1})).unwrap();
    assert!(constant.is_constant() && constant.references().is_empty());
    assert_eq!(constant.render(&Scope::new(), &mut Budget::default()).unwrap(), json!({"a": ["x", "${y}"], "b": 1}));
    let path = &Template::compile_text("a ${1 +\n b} ${c}").unwrap().paths();
    assert_eq!((path[0].line, path[0].column, path[1].line, path[1].column), (2, 2, 2, 7));
    let kept = Template::constant(json!("${not} read"));
    assert_eq!(kept.render(&Scope::new(), &mut Budget::default()).unwrap(), json!("${not} read"));
    let text = Template::compile_text("${amount}").unwrap();
    assert_eq!(text.render_text(&Scope::over(&world()), &mut Budget::default()).unwrap(), "120");
}

#[test]
fn a_long_template_of_many_expressions_is_compiled_in_a_moment() {
    let text = "\n".repeat(50_000) + &"${a}".repeat(50_000);
    let template = Template::compile_text(&text).unwrap();
    let last = template.paths().pop().unwrap();
    assert_eq!((last.line, last.column), (50_001, 4 * 49_999 + 3));
}

#[test]
fn errors_of_templates_have_a_place() {
    for (template, expected) in [
        (json!("a ${name"), "1:3: `${` has no closing `}`"),
        (json!("a ${1 +} b"), "1:8: expected a value, found the end"),
        (json!("a\nb ${\n 1 + *}"), "3:6: expected a value, found `*`"),
        (json!({"a": [1, {"b": "${}"}]}), "1:3: a[1].b: expected a value, found the end"),
        (json!({"a${x}": 1}), "1:1: a${x}: a key cannot hold an expression"),
        (json!("${'a}"), "1:3: this string does not end"),
        (json!({"a": "x ${gone}"}), "1:5: there is no `gone`"),
    ] {
        let error = render(template.clone()).unwrap_err();
        assert_eq!(format!("{}:{}: {error}", error.line, error.column), expected, "{template}");
    }
    let deep = (0..=VALUE_DEPTH_MAX + 1).fold(json!("${name}"), |inner, _| json!([inner]));
    assert!(render(deep).unwrap_err().message.contains("nested deeper"));
}

/// Text made of the words of the language, which gets much further into the parser than arbitrary text.
fn soup() -> impl Strategy<Value = String> {
    const WORDS: [&str; 48] = [
        "a", "user", "items", "name", "amount", ".", ".id", ".qty", "(", ")", "[", "]", "{", "}", ",", ":", "?", "+", "-", "*", "/", "%",
        "!", "==", "<", ">=", " in ", "&&", "||", "1", "2.5", "7u", "'s'", "\"", "'", "\\", "`", "has(", ".map(x,", ".all(x,", "default(",
        "size(", "x", "null", "true", "$", "${", "\u{e9}",
    ];
    proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..24).prop_map(|words| words.concat())
}

fn survives(text: &str) {
    let world = world();
    let scope = Scope::over(&world);
    let evaluate = |expr: &Expr| {
        let mut budget = Budget { steps: 2_000, bytes: 10_000 };
        (expr.evaluate(&scope, &mut budget), budget)
    };
    if let Ok(expr) = Expr::parse(text) {
        assert_eq!(evaluate(&expr), evaluate(&expr), "{text}");
        expr.references();
    }
    if let Ok(template) = Template::compile_text(text) {
        let _ = template.render(&scope, &mut Budget::default());
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,64}") {
        survives(&text);
    }

    #[test]
    fn soup_of_words_never_panics_and_answers_the_same_twice(text in soup()) {
        survives(&text);
    }

    #[test]
    fn a_text_without_dollars_is_its_own_template(text in "[^$]{0,32}") {
        prop_assert_eq!(render(json!(text.clone())), Ok(json!(text)));
    }

    #[test]
    fn sums_of_whole_numbers_are_exact_or_refused(a in any::<i64>(), b in any::<i64>()) {
        let value = json!({"a": a, "b": b});
        let sum = Expr::parse("a + b").unwrap().evaluate(&Scope::over(&value), &mut Budget::default());
        prop_assert_eq!(sum.ok(), a.checked_add(b).map(|sum| json!(sum)));
        let order = Expr::parse("a < double(b)").unwrap().evaluate(&Scope::over(&value), &mut Budget::default());
        prop_assert_eq!(order, Ok(json!(i128::from(a) < b as f64 as i128)));
    }
}
