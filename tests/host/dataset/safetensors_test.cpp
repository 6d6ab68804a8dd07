// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/safetensors.h"

#include <cmath>

#include "tests/host/dataset/files.h"

namespace rewardhead::dataset {
namespace {

class Safetensors : public FileTest {
 protected:
  std::string error(const std::string& contents) const {
    const std::filesystem::path file = write("x.safetensors", contents);
    return error_of([&] { read_safetensors(file); });
  }
};

TEST_F(Safetensors, ComeBackAsTheyWereWritten) {
  TensorFile contents;
  contents.tensors["score.0.weight"] = {{2, 3}, {1, -2.5f, 3e-45f, -0.0f, 3.4e38f, INFINITY}};
  contents.tensors["a"] = {{}, {7}};
  contents.tensors["empty"] = {{0, 4}, {}};
  contents.metadata = {{"format", "pt"}, {"quoted \"é\"", "line\nend"}};
  write_safetensors(path("x.safetensors"), contents);
  const TensorFile found = read_safetensors(path("x.safetensors"));
  EXPECT_EQ(found.metadata, contents.metadata);
  ASSERT_EQ(found.tensors.size(), 3u);
  for (const auto& [name, tensor] : contents.tensors) {
    EXPECT_EQ(found.tensors.at(name).shape, tensor.shape);
    EXPECT_EQ(found.tensors.at(name).values, tensor.values);
  }
}

// The bytes worked out by hand from the format's description; the spaces align the data to 8 bytes.
TEST_F(Safetensors, HaveTheBytesOfTheFormat) {
  TensorFile contents;
  contents.tensors["b"] = {{1}, {2}};
  contents.tensors["a"] = {{1, 1}, {1}};
  contents.metadata["k"] = "v";
  write_safetensors(path("x.safetensors"), contents);
  const std::string header = R"({"__metadata__":{"k":"v"},"a":{"data_offsets":[0,4],"dtype":"F32","shape":[1,1]},)"
                             R"("b":{"data_offsets":[4,8],"dtype":"F32","shape":[1]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(contents_of(path("x.safetensors")), safetensors(padded, bytes_of(std::vector<float>{1, 2})));
}

// tests/data/dataset/README.md: written by the safetensors package.
TEST_F(Safetensors, RefusesTensorsThatAreNoFloats) {
  std::string message;
  try {
    read_safetensors(std::filesystem::path(TEST_DATA) / "matrix.safetensors");
  } catch (const InputError& error) {
    message = error.what();
  }
  EXPECT_EQ(message,
            std::string(TEST_DATA) + "/matrix.safetensors, tensor 'ids': has the dtype I64; expected F32, F16 or BF16");
}

TEST_F(Safetensors, WidensHalves) {
  const std::string header = R"({"h": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
                                 "b": {"dtype": "BF16", "shape": [1], "data_offsets": [4, 6]}})";
  const TensorFile found = read_safetensors(
      write("x.safetensors", safetensors(header, bytes_of(std::vector<uint16_t>{0x3C00, 0xC100, 0x4040}))));
  EXPECT_EQ(found.tensors.at("h").values, (std::vector<float>{1, -2.5f}));
  EXPECT_EQ(found.tensors.at("b").values, (std::vector<float>{3}));
}

TEST_F(Safetensors, RefusesTensorsOfAnotherSizeThanTheirShape) {
  TensorFile contents;
  contents.tensors["a"] = {{2, 2}, {1}};
  EXPECT_THROW(write_safetensors(path("x.safetensors"), contents), std::invalid_argument);
  EXPECT_FALSE(std::filesystem::exists(path("x.safetensors")));
}

TEST_F(Safetensors, RefusesBrokenFiles) {
  EXPECT_EQ(error("1234"),
            "x.safetensors: has 4 bytes; expected a safetensors file, which begins with the 8 bytes of its header's "
            "length");
  EXPECT_EQ(error(bytes_of(uint64_t{100'000'001}) + "{}"),
            "x.safetensors: claims a safetensors header of 100000001 bytes; expected at most 100000000");
  EXPECT_EQ(error(bytes_of(uint64_t{3}) + "{}"),
            "x.safetensors: ends inside the safetensors header: found 2 bytes of it, expected 3");
  for (const char* header : {"", "{", "[]", "3", "{} {}", "{\"a\xFF\": 1}"}) {
    EXPECT_EQ(error(safetensors(header, "")), "x.safetensors: the safetensors header is not a JSON object") << header;
  }
  EXPECT_EQ(error(safetensors(R"({"__metadata__": {"a": 1}})", "")),
            "x.safetensors: '__metadata__' of the safetensors header does not map names to strings");
  EXPECT_EQ(error(safetensors(R"({"a": [[[1]]]})", "")),
            "x.safetensors: the safetensors header is nested more deeply than the format is");
  EXPECT_EQ(error(safetensors("{\"a\":" + std::string(100000, '['), "")),
            "x.safetensors: the safetensors header is nested more deeply than the format is");
}

TEST_F(Safetensors, RefusesBrokenTensors) {
  const std::string where = "x.safetensors, tensor 'a': ";
  const struct {
    const char* entry;
    const char* message;
  } cases[] = {
      {R"(7)", "its entry in the header is not a JSON object"},
      {R"({"shape": [1], "data_offsets": [0, 4]})", "'dtype' is missing or no string"},
      {R"({"dtype": 1, "shape": [1], "data_offsets": [0, 4]})", "'dtype' is missing or no string"},
      {R"({"dtype": "F33", "shape": [1], "data_offsets": [0, 4]})", "has the unknown dtype 'F33'"},
      {R"({"dtype": "F32", "shape": [1]})", "'data_offsets' is missing or no list of whole numbers"},
      {R"({"dtype": "F32", "shape": [1], "data_offsets": [0, -4]})",
       "'data_offsets' is missing or no list of whole numbers"},
      {R"({"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]})",
       "data_offsets are [0,4,8]; expected [begin, end] within the 4 bytes of data that the file has"},
      {R"({"dtype": "F32", "shape": [1], "data_offsets": [4, 0]})",
       "data_offsets are [4,0]; expected [begin, end] within the 4 bytes of data that the file has"},
      {R"({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]})",
       "data_offsets are [0,8]; expected [begin, end] within the 4 bytes of data that the file has"},
      {R"({"dtype": "F32", "data_offsets": [0, 4]})", "'shape' is missing or no list of whole numbers"},
      {R"({"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]})", "'shape' is missing or no list of whole numbers"},
      {R"({"dtype": "F32", "shape": 1, "data_offsets": [0, 4]})", "'shape' is missing or no list of whole numbers"},
      {R"({"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 4]})",
       "the shape [4294967296,4294967296] is more than any file can hold"},
      {R"({"dtype": "F32", "shape": [9223372036854775808, 0], "data_offsets": [0, 0]})",
       "the shape [9223372036854775808,0] is more than any file can hold"},
      {R"({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]})", "found 4 bytes of data, expected those of F32 [2]"},
      {R"({"dtype": "F32", "shape": [4611686018427387904], "data_offsets": [0, 0]})",
       "found 0 bytes of data, expected those of F32 [4611686018427387904]"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(error(safetensors("{\"a\": " + std::string(c.entry) + "}", "1234")), where + c.message) << c.entry;
  }
}

TEST_F(Safetensors, RefusesGapsOverlapsAndLeftoverBytes) {
  const auto two = [&](const char* first, const char* second, const std::string& data) {
    return error(safetensors(std::string(R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": )") + first +
                                 R"(}, "b": {"dtype": "U8", "shape": [4], "data_offsets": )" + second + "}}",
                             data));
  };
  EXPECT_EQ(two("[0, 4]", "[5, 9]", "123456789"),
            "x.safetensors, tensor 'b': its data begin at byte 5; expected 4, where the tensor before ends");
  EXPECT_EQ(two("[2, 6]", "[0, 4]", "123456"),
            "x.safetensors, tensor 'a': its data begin at byte 2; expected 4, where the tensor before ends");
  EXPECT_EQ(two("[0, 4]", "[4, 8]", "123456789"),
            "x.safetensors: found 9 bytes of data, expected 8, where the last tensor ends");
}

TEST_F(Safetensors, RefusesRepeatedKeys) {
  const std::string entry = R"({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})";
  EXPECT_EQ(error(safetensors("{\"a\": " + entry + ", \"a\": " + entry + "}", "1234")),
            "x.safetensors: the safetensors header has the key 'a' twice");
  EXPECT_EQ(
      error(safetensors(R"({"a": {"dtype": "F32", "shape": [1], "shape": [1], "data_offsets": [0, 4]}})", "1234")),
      "x.safetensors: the safetensors header has the key 'shape' twice");
}

}  // namespace
}  // namespace rewardhead::dataset
