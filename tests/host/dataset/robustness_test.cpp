// SPDX-License-Identifier: Apache-2.0
//
// Whatever the bytes of a file, a reader returns data that keeps its promises or throws InputError; nothing else leaves
// it. The address and undefined-behaviour sanitizers watch the same test in the `asan` build.
#include <algorithm>
#include <cmath>
#include <functional>

#include "host/dataset/embeddings.h"
#include "host/dataset/preferences.h"
#include "host/dataset/random.h"
#include "host/dataset/safetensors.h"
#include "tests/host/dataset/files.h"

namespace rewardhead::dataset {
namespace {

constexpr int64_t kRows = 4;

void check_embeddings(const std::filesystem::path& file) {
  const Embeddings embeddings = Embeddings::open(file, file.extension() == ".npy" ? "" : "f16");
  std::vector<float> row(static_cast<size_t>(embeddings.columns()));
  for (int64_t i = 0; i < embeddings.rows(); ++i) {
    embeddings.copy_row(i, row.data());
    ASSERT_TRUE(std::all_of(row.begin(), row.end(), [](float value) { return std::isfinite(value); }));
  }
}

void check_tensors(const std::filesystem::path& file) {
  for (const auto& [name, tensor] : read_safetensors(file).tensors) {
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) elements *= size;
    ASSERT_EQ(elements, static_cast<int64_t>(tensor.values.size()));
  }
}

void check_items(const std::filesystem::path& file) {
  const Items items = read_items(file, {"topic", "tokens", false}, kRows);
  ASSERT_EQ(items.ids.size(), static_cast<size_t>(kRows));
  ASSERT_EQ(items.groups.size(), static_cast<size_t>(kRows));
  for (size_t row = 0; row < items.ids.size(); ++row) {
    ASSERT_EQ(items.row_of_id.at(items.ids[row]), static_cast<int64_t>(row));
    ASSERT_FALSE(items.groups[row].empty());
  }
}

void check_pairs(const std::filesystem::path& file) {
  const Preferences pairs = read_preferences(file, {}, nullptr, kRows);
  ASSERT_GT(pairs.size(), 0);
  ASSERT_EQ(pairs.chosen.size(), pairs.rejected.size());
  ASSERT_TRUE(pairs.weight.empty() || pairs.weight.size() == pairs.chosen.size());
  for (size_t i = 0; i < pairs.chosen.size(); ++i) {
    ASSERT_TRUE(pairs.chosen[i] >= 0 && pairs.chosen[i] < kRows);
    ASSERT_TRUE(pairs.rejected[i] >= 0 && pairs.rejected[i] < kRows);
    ASSERT_NE(pairs.chosen[i], pairs.rejected[i]);
    ASSERT_TRUE(pairs.weight.empty() || (std::isfinite(pairs.weight[i]) && pairs.weight[i] >= 0));
  }
}

class Robustness : public FileTest {
 protected:
  using Check = std::function<void(const std::filesystem::path&)>;

  void feed(const std::string& name, const Check& check, const std::string& contents) {
    try {
      check(write(name, contents));
      ++accepted_;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
      ++refused_;
    }
  }

  void torment(const std::string& name, const Check& check, const std::string& good) {
    feed(name, check, good);
    ASSERT_EQ(accepted_, 1);
    for (size_t size = 0; size < good.size(); ++size) feed(name, check, good.substr(0, size));

    // Bytes that mean something to one format or another, among random ones.
    const std::string telling = "\"',:{}[]()\n\r\t 0123456789-eE.\\ux" + std::string("\0\xFF\x80\x7F", 4);
    Random random(1);
    const auto byte = [&] {
      return random.below(2) == 0 ? static_cast<char>(random.below(256)) : telling[random.below(telling.size())];
    };
    for (int i = 0; i < 3000; ++i) {
      std::string bytes = good;
      for (uint64_t changes = 1 + random.below(3); changes > 0; --changes) {
        const size_t at = random.below(bytes.size());
        switch (random.below(4)) {
          case 0:
            bytes[at] = static_cast<char>(bytes[at] ^ 1 << random.below(8));
            break;
          case 1:
            bytes[at] = byte();
            break;
          case 2:
            bytes.insert(at, 1, byte());
            break;
          default:
            bytes.erase(at, std::min<size_t>(bytes.size() - 1, 1 + random.below(4)));
        }
      }
      feed(name, check, bytes);
    }
    for (int i = 0; i < 500; ++i) {
      std::string bytes(random.below(200), '\0');
      for (char& value : bytes) value = byte();
      feed(name, check, bytes);
    }
    EXPECT_GT(refused_, 1000);
  }

  int accepted_ = 0;
  int refused_ = 0;
};

TEST_F(Robustness, NpyEmbeddings) {
  torment("x.npy", check_embeddings, contents_of(std::filesystem::path(TEST_DATA) / "matrix_f4.npy"));
}
TEST_F(Robustness, SafetensorsEmbeddings) {
  torment("x.safetensors", check_embeddings, contents_of(std::filesystem::path(TEST_DATA) / "matrix.safetensors"));
}
TEST_F(Robustness, TensorFiles) {
  TensorFile contents;
  contents.tensors["score.0.weight"] = {{2, 3}, {1, 2, 3, 4, 5, 6}};
  contents.tensors["score.0.bias"] = {{2}, {1, 2}};
  contents.metadata["format"] = "pt";
  write_safetensors(path("good.safetensors"), contents);
  torment("x.safetensors", check_tensors, contents_of(path("good.safetensors")));
}
TEST_F(Robustness, CsvItems) {
  torment("x.csv", check_items, "row,id,topic,tokens\n3,a,t,5\r\n2,\"b\n\"\"\",t,1e2\n\n1,c\u00e9,u,0\n0,d,u,7");
}
TEST_F(Robustness, JsonItems) {
  torment("x.jsonl", check_items,
          "{\"id\": \"a\", \"topic\": 1}\n{\"id\": 7, \"topic\": \"\\u00e9\"}\n\n{\"topic\": \"t\", \"id\": \"b\"}\n"
          "{\"id\": \"c\", \"topic\": \"t\", \"more\": [null, {\"id\": true}]}");
}
TEST_F(Robustness, CsvPairs) {
  torment("x.csv", check_pairs, "chosen,rejected,weight\n0,1,1\n\"2\",3,0.5\r\n1,3,2e-1\n");
}
TEST_F(Robustness, TsvPairs) {
  torment("x.tsv", check_pairs,
          "\xEF\xBB\xBF"
          "chosen\trejected\tweight\n0\t1\t1\n\"2\"\t3\t0.5\n");
}
TEST_F(Robustness, JsonPairs) {
  torment("x.jsonl", check_pairs,
          "{\"chosen\": 0, \"rejected\": 1, \"weight\": 1}\n{\"rejected\": \"3\", \"chosen\": 2, \"weight\": 5e-1}\n");
}

}  // namespace
}  // namespace rewardhead::dataset
