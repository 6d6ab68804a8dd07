// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/split.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "host/dataset/random.h"
#include "tests/host/dataset/files.h"

namespace rewardhead::dataset {
namespace {

// `groups` groups of `size` items; item i is in group i / size, whose name is the letter `groups` - 1 - i / size, so
// that the order of names is not that of rows. Every pair of items of one group.
struct Data {
  Items items;
  Preferences pairs;
};

Data make(int groups, int size) {
  Data data;
  data.items.file = "items.csv";
  data.pairs.file = "pairs.csv";
  for (int row = 0; row < groups * size; ++row) {
    data.items.ids.push_back("id" + std::to_string(row));
    data.items.groups.push_back(std::string(1, static_cast<char>('a' + groups - 1 - row / size)));
    data.items.row_of_id[data.items.ids.back()] = row;
    for (int other = row + 1; other < (row / size + 1) * size; ++other) {
      data.pairs.chosen.push_back(row);
      data.pairs.rejected.push_back(other);
      data.pairs.weight.push_back(static_cast<float>(data.pairs.chosen.size()));
    }
  }
  return data;
}

std::string groups_of(const Preferences& pairs, const Items& items) {
  std::set<std::string> names;
  for (const int32_t row : distinct_rows(pairs)) names.insert(items.groups[static_cast<size_t>(row)]);
  std::string all;
  for (const std::string& name : names) all += name;
  return all;
}

class SplitOf : public FileTest {};

TEST_F(SplitOf, FoldsTakeEveryKthOfTheSortedGroups) {
  const Data data = make(7, 3);
  const char* held_out[] = {"adg", "be", "cf"};
  const char* train[] = {"bcef", "acdfg", "abdeg"};
  for (int fold = 0; fold < 3; ++fold) {
    const Split split = split_folds(data.pairs, data.items, 3, fold);
    EXPECT_EQ(groups_of(split.held_out, data.items), held_out[fold]);
    EXPECT_EQ(groups_of(split.train, data.items), train[fold]);
    EXPECT_EQ(split.train.size() + split.held_out.size(), data.pairs.size());
    EXPECT_TRUE(std::is_sorted(split.train.weight.begin(), split.train.weight.end()));  // the order of the file
  }
}

// Counted with Python's csv module over host/sample_data: pairs of every fourth of the sorted debates, from k.
TEST_F(SplitOf, FoldsOfTheSampleData) {
  const std::filesystem::path folder = SAMPLE_DATA;
  const Items items = read_items(folder / "items.csv", {"debate", "tokens", true}, 1052);
  const Preferences pairs = read_preferences(folder / "pairs.csv", {}, &items, 1052);
  const int64_t held_out[] = {3000, 2433, 3094, 3123};
  for (int fold = 0; fold < 4; ++fold) EXPECT_EQ(split_folds(pairs, items, 4, fold).held_out.size(), held_out[fold]);
}

TEST_F(SplitOf, FoldsRefuseWhatCannotBe) {
  const Data data = make(3, 2);
  const auto error = [&](int folds, int fold) {
    return error_of([&] { split_folds(data.pairs, data.items, folds, fold); });
  };
  EXPECT_EQ(error(1, 0), "--folds is 1; expected 2 or more");
  EXPECT_EQ(error(2, 2), "--fold is 2; expected 0 to 1");
  EXPECT_EQ(error(2, -1), "--fold is -1; expected 0 to 1");
  EXPECT_EQ(error(4, 0), "--folds is 4, but items.csv has 3 groups; expected at most one fold for each");
  Data ungrouped = data;
  ungrouped.items.groups.clear();
  EXPECT_EQ(error_of([&] { split_folds(ungrouped.pairs, ungrouped.items, 2, 0); }),
            "pairs.csv: folds need groups; name their column with --group-column");
}

TEST_F(SplitOf, RefusesPairsAcrossGroups) {
  Data data = make(3, 2);
  data.pairs.rejected[0] = 4;
  const std::string message =
      "pairs.csv: pairs 'id0' of group 'c' with 'id4' of group 'a'; expected pairs within one group";
  EXPECT_EQ(error_of([&] { split_folds(data.pairs, data.items, 2, 0); }), message);
  EXPECT_EQ(error_of([&] { split_holdout(data.pairs, &data.items, 0.5, 0); }), message);
  EXPECT_EQ(error_of([&] { split_holdout(data.pairs, &data.items, 0, 0); }), message);
}

TEST_F(SplitOf, RefusesAPartWithoutPairs) {
  Data data = make(2, 2);  // pairs 0-1 of group b and 2-3 of group a
  data.pairs = select(data.pairs, {0});
  EXPECT_EQ(error_of([&] { split_folds(data.pairs, data.items, 2, 0); }),
            "pairs.csv: no pair falls into the part held out; hold out more");
  EXPECT_EQ(error_of([&] { split_folds(data.pairs, data.items, 2, 1); }),
            "pairs.csv: no pair is left to train on; hold out less");
}

TEST_F(SplitOf, HoldoutDrawsGroupsAsDocumented) {
  const Data data = make(8, 3);
  std::set<std::string> draws;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<char> names{'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'};
    Random(seed, 0x73706C6974).shuffle(names);
    std::sort(names.begin(), names.begin() + 2);
    const Split split = split_holdout(data.pairs, &data.items, 0.25, seed);
    EXPECT_EQ(groups_of(split.held_out, data.items), std::string(names.begin(), names.begin() + 2));
    EXPECT_EQ(split.train.size(), 6 * 3);
    draws.insert(groups_of(split.held_out, data.items));
  }
  EXPECT_GT(draws.size(), 10u);  // of 28 possible
}

TEST_F(SplitOf, HoldoutTakesAtLeastOneGroup) {
  const Data data = make(5, 2);
  EXPECT_EQ(split_holdout(data.pairs, &data.items, 0.01, 0).held_out.size(), 1);
}

TEST_F(SplitOf, HoldoutOfItemsPutsNoItemOnBothSides) {
  Data data = make(1, 40);
  data.items.groups.clear();
  for (const Items* items : {static_cast<const Items*>(nullptr), static_cast<const Items*>(&data.items)}) {
    const Split split = split_holdout(data.pairs, items, 0.25, 3);
    const std::vector<int32_t> train = distinct_rows(split.train);
    const std::vector<int32_t> held_out = distinct_rows(split.held_out);
    EXPECT_EQ(train.size(), 30u);
    EXPECT_EQ(held_out.size(), 10u);
    std::vector<int32_t> both;
    std::set_intersection(train.begin(), train.end(), held_out.begin(), held_out.end(), std::back_inserter(both));
    EXPECT_TRUE(both.empty());
    EXPECT_EQ(split.train.size(), 30 * 29 / 2);
    EXPECT_EQ(split.held_out.size(), 10 * 9 / 2);
  }
}

// Items in no pair take no part in the draw: of rows 100 to 109 alone, two are held out.
TEST_F(SplitOf, HoldoutDrawsAmongItemsInPairs) {
  Preferences pairs;
  for (int32_t a = 100; a < 110; ++a) {
    for (int32_t b = 100; b < 110; ++b) {
      if (a == b) continue;
      pairs.chosen.push_back(a);
      pairs.rejected.push_back(b);
    }
  }
  EXPECT_EQ(distinct_rows(split_holdout(pairs, nullptr, 0.2, 0).held_out).size(), 2u);
}

TEST_F(SplitOf, HoldoutOfNothingTrainsOnAll) {
  const Data data = make(3, 2);
  const Split split = split_holdout(data.pairs, &data.items, 0, 0);
  EXPECT_EQ(split.train.chosen, data.pairs.chosen);
  EXPECT_EQ(split.held_out.size(), 0);
}

TEST_F(SplitOf, HoldoutRefusesFractionsOutOfRange) {
  const Data data = make(3, 2);
  for (const double bad : {-0.5, 1.0, 2.0, static_cast<double>(NAN)}) {
    EXPECT_EQ(error_of([&] { split_holdout(data.pairs, &data.items, bad, 0); }),
              "--holdout is " + std::to_string(bad) + "; expected 0 or more, and less than 1");
  }
}

}  // namespace
}  // namespace rewardhead::dataset
