// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/preferences.h"
#include "tests/host/dataset/files.h"

namespace rewardhead::dataset {
namespace {

using Strings = std::vector<std::string>;

class ItemsFile : public FileTest {
 protected:
  Items read(const std::string& contents, int64_t rows, const ItemColumns& columns = {},
             const std::string& name = "items.csv") const {
    return read_items(write(name, contents), columns, rows);
  }
  std::string error(const std::string& contents, int64_t rows, const ItemColumns& columns = {}) const {
    return error_of([&] { read(contents, rows, columns); });
  }
};

TEST_F(ItemsFile, WithoutRowColumnLinesAreRows) {
  const Items items = read("id,tokens\nx,3\ny,0\n", 2);
  EXPECT_EQ(items.file, path("items.csv"));
  EXPECT_EQ(items.ids, (Strings{"x", "y"}));
  EXPECT_EQ(items.lengths, (std::vector<double>{3, 0}));
  EXPECT_TRUE(items.groups.empty());
  EXPECT_EQ(items.row_of_id.at("x"), 0);
  EXPECT_EQ(items.row_of_id.at("y"), 1);
}

TEST_F(ItemsFile, RowColumnPlacesTheItems) {
  const ItemColumns columns{"topic", "characters", true};
  const Items items = read("row,id,topic,tokens,characters\n2,x,s,1,10.5\n0,y,t,2,20\n1,z,s,3,30\n", 3, columns);
  EXPECT_EQ(items.ids, (Strings{"y", "z", "x"}));
  EXPECT_EQ(items.groups, (Strings{"t", "s", "s"}));
  EXPECT_EQ(items.lengths, (std::vector<double>{20, 30, 10.5}));
  EXPECT_EQ(items.row_of_id.at("x"), 2);
}

TEST_F(ItemsFile, LengthsAreReadOnlyWhereTheFileHasThem) {
  EXPECT_TRUE(read("id\nx\n", 1).lengths.empty());
  EXPECT_TRUE(read("id,tokens\nx,many\n", 1, {"", "characters", false}).lengths.empty());
}

TEST_F(ItemsFile, JsonNumbersAreIdsByTheirText) {
  const Items items = read("{\"id\": 17, \"row\": 1}\n{\"id\": \"017\", \"row\": \"0\"}\n", 2, {}, "items.jsonl");
  EXPECT_EQ(items.ids, (Strings{"017", "17"}));
}

TEST_F(ItemsFile, ReadsTheSampleData) {
  const Items items = read_items(std::filesystem::path(SAMPLE_DATA) / "items.csv", {"debate", "tokens", true}, 1052);
  EXPECT_EQ(items.ids.front(), "arg219225");  // the file's first line
  EXPECT_EQ(items.lengths.front(), 152);
  EXPECT_EQ(items.groups.front(), "ban-plastic-water-bottles");
  EXPECT_EQ(items.row_of_id.size(), 1052u);
}

TEST_F(ItemsFile, RefusesMissingColumns) {
  EXPECT_EQ(error("row,tokens\n0,1\n", 1), "items.csv, line 1: has no column 'id'; its columns are 'row', 'tokens'");
  EXPECT_EQ(error("id\nx\n", 1, {"topic", "tokens", false}),
            "items.csv, line 1: has no column 'topic'; its columns are 'id'");
  EXPECT_EQ(error("id\nx\n", 1, {"", "tokens", true}),
            "items.csv, line 1: has no column 'tokens'; its columns are 'id'");
}

TEST_F(ItemsFile, RefusesAnotherNumberOfItemsThanRows) {
  EXPECT_EQ(error("id\nx\ny\n", 3), "items.csv: found 2 items, expected 3, one for each row of the embeddings");
  EXPECT_EQ(error("id\nx\ny\n", 1),
            "items.csv, line 3: found one item more than the 1 rows of the embeddings; expected one for each row");
}

TEST_F(ItemsFile, RefusesRowsThatAreNoPermutation) {
  EXPECT_EQ(error("row,id\n0,x\n2,y\n", 2),
            "items.csv, line 3: column 'row' holds '2'; expected a row number from 0 to 1");
  EXPECT_EQ(error("row,id\n1,x\n\n1,y\n", 2),
            "items.csv, line 4: column 'row' holds '1'; expected each row once; line 2 has it too");
}

TEST_F(ItemsFile, RefusesBadIdsGroupsAndLengths) {
  EXPECT_EQ(error("row,id\n1,x\n0,x\n", 2),
            "items.csv, line 3: column 'id' holds 'x'; expected each id once; line 2 has it too");
  EXPECT_EQ(error("id,tokens\n,1\n", 1), "items.csv, line 2: column 'id' holds ''; expected an id");
  EXPECT_EQ(error("id,topic\nx,\n", 1, {"topic", "tokens", false}),
            "items.csv, line 2: column 'topic' holds ''; expected the name of a group");
  EXPECT_EQ(error("id,tokens\nx,-1\n", 1),
            "items.csv, line 2: column 'tokens' holds '-1'; expected a length, 0 or more");
  EXPECT_EQ(error("id,tokens\nx,nan\n", 1),
            "items.csv, line 2: column 'tokens' holds 'nan'; expected a finite decimal number");
}

}  // namespace
}  // namespace rewardhead::dataset
