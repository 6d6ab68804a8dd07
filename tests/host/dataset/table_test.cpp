// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/table.h"

#include "tests/host/dataset/files.h"

namespace rewardhead::dataset {
namespace {

// A row as text, "LINE:a|b|c", with "-" for a column that the file lacks.
using Rows = std::vector<std::string>;

class Table : public FileTest {
 protected:
  Rows read(const std::string& name, const std::string& contents,
            const std::vector<TableColumn>& columns = {{"a", true}, {"b", false}}) const {
    Rows rows;
    read_table(write(name, contents), columns, [&](int64_t line, auto values) {
      std::string text = std::to_string(line);
      for (const auto& value : values) text += (&value == &values[0] ? ":" : "|") + std::string(value.value_or("-"));
      rows.push_back(text);
    });
    return rows;
  }
  std::string error(const std::string& name, const std::string& contents) const {
    return error_of([&] { read(name, contents); });
  }
};

TEST_F(Table, ReadsCommasAndTabs) {
  EXPECT_EQ(read("x.csv", "a,b\n1,2\n3,4\n"), (Rows{"2:1|2", "3:3|4"}));
  EXPECT_EQ(read("x.tsv", "a\tb\n1\t2,5\n\t4\n"), (Rows{"2:1|2,5", "3:|4"}));
}

TEST_F(Table, FindsColumnsByNameAndLeavesTheOthers) {
  EXPECT_EQ(read("x.csv", "c,b,d,a\n1,2,3,4\n"), Rows{"2:4|2"});
  EXPECT_EQ(read("x.csv", "c,a\n1,2\n"), Rows{"2:2|-"});
  EXPECT_EQ(read("x.csv", "a\n1\n", {{"a", true}, {"a", true}}), Rows{"2:1|1"});
  EXPECT_EQ(read("x.jsonl", "{\"c\": [1, {\"a\": 2}], \"b\": 3, \"a\": 4}\n"), Rows{"1:4|3"});
  EXPECT_EQ(read("x.jsonl", "{\"a\": 1}", {{"a", true}, {"a", true}}), Rows{"1:1|1"});
}

TEST_F(Table, ReadsEveryEndOfLine) {
  const Rows expected{"2:1|2", "3:3|4"};
  for (const char* contents : {"a,b\n1,2\n3,4", "a,b\r\n1,2\r\n3,4\r\n", "a,b\r1,2\r3,4\r",
                               "\xEF\xBB\xBF"
                               "a,b\n1,2\n3,4\n"}) {
    EXPECT_EQ(read("x.csv", contents), expected) << contents;
  }
  const Rows json{"1:1|2", "2:3|4"};
  for (const char* end : {"\n", "\r\n", "\r"}) {
    const std::string first = std::string("{\"a\":1,\"b\":2}") + end + "{\"a\":3,\"b\":4}";
    EXPECT_EQ(read("x.jsonl", first), json);
    EXPECT_EQ(read("x.jsonl", "\xEF\xBB\xBF" + first + end), json);
  }
}

TEST_F(Table, SkipsBlankLinesAndCountsThem) {
  EXPECT_EQ(read("x.csv", "\n\na,b\n\n1,2\n  \n3,4\n\n"), (Rows{"5:1|2", "7:3|4"}));
  EXPECT_EQ(read("x.csv", "a,b\r\n\r\n1,2\r\n"), Rows{"3:1|2"});
  EXPECT_EQ(read("x.jsonl", "\n{\"a\": 1}\n \r\n{\"a\": 2}\n"), (Rows{"2:1|-", "4:2|-"}));
}

TEST_F(Table, ReadsQuotedFields) {
  EXPECT_EQ(read("x.csv", "\"a\",b\n\"1,\"\"x\"\"\",2\n\"\",\"\"\n"), (Rows{"2:1,\"x\"|2", "3:|"}));
  EXPECT_EQ(read("x.csv", "a,b\n 1 , \"2 \" \n"), Rows{"2:1|2 "});
}

// The line is that of the row's first character, over quoted ends of lines, blank lines among them.
TEST_F(Table, CountsLinesInsideQuotes) {
  EXPECT_EQ(read("x.csv", "a,b\n1,\"2\n\n\n3\"\n4,5\n"), (Rows{"2:1|2\n\n\n3", "6:4|5"}));
  EXPECT_EQ(error("x.csv", "a,b\n1,\"2\n\n3\",4\n"), "x.csv, line 2: found 3 fields, expected 2 as in the header");
}

TEST_F(Table, PassesJsonValuesAsTheirText) {
  EXPECT_EQ(read("x.jsonl",
                 R"({"a": "1", "b": -7}
                    {"a": 18446744073709551616, "b": 0.10}
                    {"a": 1e3, "b": "\u00e9\n"})"),
            (Rows{"1:1|-7", "2:18446744073709551616|0.10", "3:1e3|\u00e9\n"}));
}

TEST_F(Table, RefusesFilesOfAnotherKind) {
  EXPECT_EQ(error("x.txt", "a\n1\n"), "x.txt: has the extension '.txt'; expected .csv, .tsv or .jsonl");
  EXPECT_EQ(error("x", "a\n1\n"), "x: has the extension ''; expected .csv, .tsv or .jsonl");
  EXPECT_EQ(error("x.csv", std::string("a,b\n1,\0\n", 8)), "x.csv, line 2: holds a NUL byte; expected UTF-8 text");
  EXPECT_EQ(error("x.csv", std::string("\xFF\xFE"
                                       "a\0",
                                       4)),
            "x.csv, line 1: holds a NUL byte; expected UTF-8 text");
}

// RFC 3629, section 4: what is and what is not UTF-8.
TEST_F(Table, TakesUtf8Only) {
  for (const char* good : {"\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEF\xBF\xBF", "\xF0\x90\x80\x80",
                           "\xF4\x8F\xBF\xBF"}) {
    EXPECT_EQ(read("x.csv", std::string("a\n") + good + "\n"), Rows{std::string("2:") + good + "|-"});
  }
  for (const char* bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xC3", "\xC3(", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xE2\x82",
                          "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "caf\xE9"}) {
    for (const char* end : {"", "\n"}) {
      EXPECT_EQ(error("x.csv", std::string("a\n") + bad + end),
                "x.csv, line 2: holds bytes that are not UTF-8; expected UTF-8 text");
    }
  }
}

TEST_F(Table, RefusesFilesWithoutRows) {
  EXPECT_EQ(error("x.csv", ""), "x.csv: is empty; expected a header and rows");
  EXPECT_EQ(error("x.csv", "a,b\n"), "x.csv: holds no rows; expected a header and rows");
  EXPECT_EQ(error("x.csv", "\n\n"), "x.csv: holds no rows; expected a header and rows");
  EXPECT_EQ(error("x.jsonl", ""), "x.jsonl: is empty; expected a JSON object a line");
  EXPECT_EQ(error("x.jsonl", "\n"), "x.jsonl: holds no rows; expected a JSON object a line");
}

TEST_F(Table, RefusesHeadersWithoutTheColumns) {
  EXPECT_EQ(error("x.csv", "\nb,c\n1,2\n"), "x.csv, line 2: has no column 'a'; its columns are 'b', 'c'");
  EXPECT_EQ(error("x.csv", "b,a,c,a\n1,2,3,4\n"),
            "x.csv, line 1: the header names the column 'a' twice, as column 2 and 4");
  EXPECT_EQ(error("x.jsonl", "{\"b\": 1, \"c\": {\"a\": 2}}"),
            "x.jsonl, line 1: has no key 'a'; its keys are 'b', 'c'");
}

TEST_F(Table, RefusesRaggedRowsAndBadQuotes) {
  EXPECT_EQ(error("x.csv", "a,b\n1,2\n3\n"), "x.csv, line 3: found 1 fields, expected 2 as in the header");
  EXPECT_EQ(error("x.csv", "a,b\n1,2,\n"), "x.csv, line 2: found 3 fields, expected 2 as in the header");
  EXPECT_EQ(error("x.csv", "a,b\n1"), "x.csv, line 2: found 1 fields, expected 2 as in the header");
  const std::string quote =
      ": a quote stands where none may; expected a field quoted as a whole, with quotes inside doubled";
  EXPECT_EQ(error("x.csv", "a,b\n1,2\"3\n"), "x.csv, line 2" + quote);
  EXPECT_EQ(error("x.csv", "a,b\n1,\"2\"3\n"), "x.csv, line 2" + quote);
  EXPECT_EQ(error("x.csv", "a,b\n1,2\n3,\"4\n\n5,6\n"), "x.csv, line 3: a quoted field has no end");
}

TEST_F(Table, RefusesLinesThatAreNoJsonObject) {
  const auto second = [&](const std::string& line) { return error("x.jsonl", "{\"a\": 1}\n" + line + "\n"); };
  const std::string mistake = "x.jsonl, line 2: is not a JSON object (the mistake is at byte ";
  EXPECT_EQ(second("{\"a\": 1"), mistake + "9)");
  EXPECT_EQ(second("{\"a\": 1} x"), mistake + "10)");
  EXPECT_EQ(second("{'a': 1}"), mistake + "2)");
  EXPECT_EQ(second("{\"a\": NaN}"), mistake + "7)");
  EXPECT_EQ(second("{\"a\": 1e999}"), mistake + "11)");
  EXPECT_EQ(second("{\"a\": 01}"), mistake + "8)");
  EXPECT_EQ(second("7"), "x.jsonl, line 2: is not a JSON object; found a single value");
  EXPECT_EQ(second("null"), "x.jsonl, line 2: is not a JSON object; found null");
  EXPECT_EQ(second("[{\"a\": 1}]"), "x.jsonl, line 2: is not a JSON object; found an array");
  EXPECT_EQ(second(std::string(100000, '[')), "x.jsonl, line 2: is not a JSON object; found an array");
}

TEST_F(Table, RefusesJsonValuesThatAreNoTextOrNumber) {
  const auto value = [&](const std::string& text) { return error("x.jsonl", "{\"a\": " + text + "}"); };
  EXPECT_EQ(value("null"), "x.jsonl, line 1: 'a' is null; expected a string or a number");
  EXPECT_EQ(value("true"), "x.jsonl, line 1: 'a' is true; expected a string or a number");
  EXPECT_EQ(value("[1]"), "x.jsonl, line 1: 'a' is an array; expected a string or a number");
  EXPECT_EQ(value("{\"a\": 1}"), "x.jsonl, line 1: 'a' is an object; expected a string or a number");
  EXPECT_EQ(value("1, \"a\": 2"), "x.jsonl, line 1: has the key 'a' twice");
}

TEST_F(Table, RefusesJsonKeysThatComeAndGo) {
  EXPECT_EQ(error("x.jsonl", "\n{\"a\": 1, \"b\": 1}\n{\"a\": 2}\n"), "x.jsonl, line 3: has no key 'b'; line 2 has it");
  EXPECT_EQ(error("x.jsonl", "{\"a\": 1}\n{\"a\": 2, \"b\": 1}\n"), "x.jsonl, line 2: has the key 'b'; line 1 has not");
  EXPECT_EQ(error("x.jsonl", "{\"a\": 1}\n{\"b\": 1}\n"), "x.jsonl, line 2: has no key 'a'; line 1 has it");
}

TEST_F(Table, NumbersAreDecimalWholeAndFinite) {
  const std::filesystem::path file = "x.csv";
  const auto number = [&](std::string_view text) { return TableCell{file, 3, "w", text}.number(); };
  EXPECT_EQ(number("0.1"), 0.1);
  EXPECT_EQ(number("-2e3"), -2000.0);
  for (const char* bad : {"", "nan", "inf", "-inf", "0x10", "1,5", "1 ", " 1", "+1", "1e999", "1.0.0", "ten"}) {
    EXPECT_EQ(error_of([&] { number(bad); }),
              "x.csv, line 3: column 'w' holds '" + std::string(bad) + "'; expected a finite decimal number");
  }
  const auto row = [&](std::string_view text) { return TableCell{file, 3, "w", text}.row_number(5); };
  EXPECT_EQ(row("0"), 0);
  EXPECT_EQ(row("4"), 4);
  for (const char* bad : {"", "5", "-1", "1.0", "1e0", "0x1", "99999999999999999999", "a1"}) {
    EXPECT_EQ(error_of([&] { row(bad); }),
              "x.csv, line 3: column 'w' holds '" + std::string(bad) + "'; expected a row number from 0 to 4");
  }
}

TEST_F(Table, CutsLongValuesBetweenCharacters) {
  const std::filesystem::path file = "x.csv";
  const std::string text = std::string(59, 'x') + "\u00e9";
  EXPECT_EQ(error_of([&] {
              TableCell{file, 3, "w", text}.number();
            }),
            "x.csv, line 3: column 'w' holds '" + std::string(59, 'x') + "'; expected a finite decimal number");
}

}  // namespace
}  // namespace rewardhead::dataset
