// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/embeddings.h"

#include <sys/stat.h>

#include <bit>
#include <limits>

#include "tests/host/dataset/files.h"

namespace rewardhead::dataset {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> values_of(const Embeddings& embeddings) {
  std::vector<float> values(static_cast<size_t>(embeddings.rows() * embeddings.columns()));
  for (int64_t row = 0; row < embeddings.rows(); ++row) {
    embeddings.copy_row(row, values.data() + row * embeddings.columns());
  }
  return values;
}

std::string header(const std::string& descr, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }\n";
}

class EmbeddingsFile : public FileTest {
 protected:
  std::string npy_error(const std::string& contents) const {
    const std::filesystem::path file = write("x.npy", contents);
    return error_of([&] { Embeddings::open(file); });
  }
  std::string safetensors_error(const std::string& contents, const std::string& tensor = "") const {
    const std::filesystem::path file = write("x.safetensors", contents);
    return error_of([&] { Embeddings::open(file, tensor); });
  }
};

// tests/data/dataset/README.md: written by NumPy and safetensors.
TEST_F(EmbeddingsFile, ReadsWhatOtherProgramsWrite) {
  std::vector<float> expected;
  for (int i = 0; i < 12; ++i) expected.push_back(static_cast<float>(i) / 8 - 0.5f);
  const struct {
    const char* file;
    const char* tensor;
    rh_dtype dtype;
  } cases[] = {
      {"matrix_f4.npy", "", RH_F32},         {"matrix_f2.npy", "", RH_F16},
      {"matrix_v2.npy", "", RH_F32},         {"matrix.safetensors", "f32", RH_F32},
      {"matrix.safetensors", "f16", RH_F16}, {"matrix.safetensors", "bf16", RH_BF16},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(std::string(c.file) + " " + c.tensor);
    const Embeddings embeddings = Embeddings::open(std::filesystem::path(TEST_DATA) / c.file, c.tensor);
    EXPECT_EQ(embeddings.rows(), 3);
    EXPECT_EQ(embeddings.columns(), 4);
    EXPECT_EQ(embeddings.dtype(), c.dtype);
    EXPECT_EQ(values_of(embeddings), expected);
    EXPECT_EQ(embeddings.row(0), embeddings.data());
  }
}

TEST_F(EmbeddingsFile, ReadsTheSampleData) {
  const Embeddings embeddings = Embeddings::open(std::filesystem::path(SAMPLE_DATA) / "embeddings.npy");
  EXPECT_EQ(embeddings.rows(), 1052);
  EXPECT_EQ(embeddings.columns(), 384);
}

TEST_F(EmbeddingsFile, ReadsEveryVersionAndSpellingOfTheHeader) {
  const std::string data = bytes_of(std::vector<float>{1, 2});
  const std::string v3_header = header("<f4", "(1, 2)");
  const std::string v3 = "\x93NUMPY" + std::string("\3\0", 2) + bytes_of(static_cast<uint32_t>(v3_header.size()));
  for (const std::string& contents :
       {npy(header("<f4", "(1, 2)"), data), npy(header("<f4", "(1,2,)"), data), v3 + v3_header + data,
        npy("{\"shape\":(1,2),\"fortran_order\":False,\"descr\":\"<f4\"}", data)}) {
    EXPECT_EQ(values_of(Embeddings::open(write("x.npy", contents))), (std::vector<float>{1, 2}));
  }
}

TEST_F(EmbeddingsFile, ReadsDataAtAnyAlignment) {
  for (size_t padding = 0; padding < 4; ++padding) {
    const std::string spaces(padding, ' ');
    const std::string data = bytes_of(std::vector<float>{1, 2});
    const std::string fields = R"({"x": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}})";
    for (const std::filesystem::path& file : {write("x.npy", npy(header("<f4", "(1, 2)") + spaces, data)),
                                              write("x.safetensors", safetensors(fields + spaces, data))}) {
      const Embeddings embeddings = Embeddings::open(file);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(embeddings.data()) % 4, 0u);
      EXPECT_EQ(values_of(embeddings), (std::vector<float>{1, 2}));
    }
  }
}

// IEEE 754: the largest and smallest numbers of binary16 and bfloat16, and the negative zero.
TEST_F(EmbeddingsFile, WidensTheEndsOfTheRange) {
  const std::vector<uint16_t> half{0x7BFF, 0xFBFF, 0x0400, 0x0001, 0x8001, 0x8000};
  EXPECT_EQ(values_of(Embeddings::open(write("x.npy", npy(header("<f2", "(1, 6)"), bytes_of(half))))),
            (std::vector<float>{65504, -65504, 0x1p-14f, 0x1p-24f, -0x1p-24f, -0.0f}));
  const std::vector<uint16_t> bfloat{0x7F7F, 0x0080, 0x0001, 0x8000};
  const std::string fields = R"({"x": {"dtype": "BF16", "shape": [1, 4], "data_offsets": [0, 8]}})";
  EXPECT_EQ(values_of(Embeddings::open(write("x.safetensors", safetensors(fields, bytes_of(bfloat))))),
            (std::vector<float>{0x1.FEp127f, 0x1p-126f, 0x1p-133f, -0.0f}));
}

TEST_F(EmbeddingsFile, OutlivesItsCopiesAndItsFileName) {
  Embeddings copy;
  {
    const Embeddings embeddings = Embeddings::open(write("x.npy", npy(header("<f4", "(1, 1)"), bytes_of(3.0f))));
    copy = embeddings;
  }
  std::filesystem::remove(path("x.npy"));
  EXPECT_EQ(values_of(copy), std::vector<float>{3});
}

TEST_F(EmbeddingsFile, ViewIsTheMemoryItself) {
  const std::vector<float> single{1, 2, 3, 4, 5, 6};
  const Embeddings view = Embeddings::view("x", single.data(), 3, 2, RH_F32);
  EXPECT_EQ(view.file(), "x");
  EXPECT_EQ(view.rows(), 3);
  EXPECT_EQ(view.columns(), 2);
  EXPECT_EQ(view.dtype(), RH_F32);
  EXPECT_EQ(view.data(), single.data());
  EXPECT_EQ(view.row(2), single.data() + 4);
  EXPECT_EQ(values_of(view), single);
  const Embeddings copy = view;
  EXPECT_EQ(copy.data(), single.data());

  const std::vector<uint16_t> half{0x3C00, 0xC000}, bfloat{0x3F80, 0xC000};  // 1, -2
  EXPECT_EQ(values_of(Embeddings::view("x", half.data(), 1, 2, RH_F16)), (std::vector<float>{1, -2}));
  EXPECT_EQ(values_of(Embeddings::view("x", bfloat.data(), 2, 1, RH_BF16)), (std::vector<float>{1, -2}));
}

TEST_F(EmbeddingsFile, ViewRefusesWhatOpenRefusesAndMisalignedMemory) {
  const auto refused = [&](const void* data, int64_t rows, int64_t columns, rh_dtype dtype) {
    return error_of([&] { Embeddings::view("x", data, rows, columns, dtype); });
  };
  const float values[] = {0, 1, kNan, -kInfinity, 0};
  EXPECT_EQ(refused(values, 0, 2, RH_F32), "x has 0 rows and 2 columns; expected at least one of each");
  EXPECT_EQ(refused(values, 2, 0, RH_F32), "x has 2 rows and 0 columns; expected at least one of each");
  EXPECT_EQ(refused(values, 2, 2, RH_F32), "x: row 1, column 0 is nan; expected a finite number");
  EXPECT_EQ(refused(values + 3, 1, 1, RH_F32), "x: row 0, column 0 is -inf; expected a finite number");
  const uint16_t infinite[] = {0x7BFF, 0x7C00, 0x7F80};  // the largest, and infinity in either type
  EXPECT_EQ(refused(infinite, 1, 2, RH_F16), "x: row 0, column 1 is inf; expected a finite number");
  EXPECT_EQ(refused(infinite, 3, 1, RH_BF16), "x: row 2, column 0 is inf; expected a finite number");
  // Refused before a row is read.
  EXPECT_EQ(refused(values, int64_t{1} << 31, 1, RH_F32), "x: has 2147483648 rows; expected at most 2147483647");
  alignas(4) const char bytes[8] = {};
  for (const int offset : {1, 2, 3}) {
    EXPECT_EQ(refused(bytes + offset, 1, 1, RH_F32), "x is not aligned to its elements of 4 bytes; copy it");
  }
  EXPECT_EQ(refused(bytes + 1, 1, 1, RH_F16), "x is not aligned to its elements of 2 bytes; copy it");
  EXPECT_EQ(Embeddings::view("x", bytes + 2, 1, 1, RH_F16).data(), bytes + 2);
}

TEST_F(EmbeddingsFile, RefusesWhatIsNoReadableFile) {
  EXPECT_EQ(error_of([&] { Embeddings::open(path("none.npy")); }),
            "none.npy: cannot be read: No such file or directory");
  std::filesystem::create_directory(path("folder.npy"));
  EXPECT_EQ(error_of([&] { Embeddings::open(path("folder.npy")); }),
            "folder.npy: is a directory; expected a regular file");
  ASSERT_EQ(::mkfifo(path("pipe.npy").c_str(), 0600), 0);
  EXPECT_EQ(error_of([&] { Embeddings::open(path("pipe.npy")); }),
            "pipe.npy: is not a regular file; expected a regular file");
  EXPECT_EQ(error_of([&] { Embeddings::open(path("x.csv")); }),
            "x.csv: has the extension '.csv'; expected embeddings as .npy or .safetensors");
  EXPECT_EQ(error_of([&] { Embeddings::open(path("x.npy"), "t"); }),
            "x.npy: the array of a .npy file has no name, but the tensor 't' was asked for; leave out --tensor");
  if (::geteuid() != 0) {  // root may read everything
    std::filesystem::permissions(write("locked.npy", "x"), std::filesystem::perms::none);
    EXPECT_EQ(error_of([&] { Embeddings::open(path("locked.npy")); }), "locked.npy: cannot be read: Permission denied");
  }
}

TEST_F(EmbeddingsFile, RefusesBrokenNpy) {
  const std::string good = header("<f4", "(1, 2)");
  const std::string data = bytes_of(std::vector<float>{1, 2});
  EXPECT_EQ(npy_error(""), "x.npy: does not begin as a .npy file does; it has 0 bytes");
  EXPECT_EQ(npy_error("PK\3\4 and so on"), "x.npy: does not begin as a .npy file does; it has 14 bytes");
  EXPECT_EQ(npy_error("\x93NUMPY\4\1" + std::string(9, 'x')), "x.npy: is of .npy version 4; expected 1, 2 or 3");
  EXPECT_EQ(npy_error("\x93NUMPY\1\1x"), "x.npy: ends inside the .npy header, after 9 bytes");
  EXPECT_EQ(npy_error(npy(good, "").substr(0, 30)),
            "x.npy: ends inside the .npy header: found 20 bytes of it, expected " + std::to_string(good.size()));
  EXPECT_EQ(npy_error(npy(good, data.substr(1))),
            "x.npy: is cut short: found 7 bytes of data, expected 8 for 1 rows and 2 columns");
  EXPECT_EQ(npy_error(npy(good, data + "x")),
            "x.npy: goes on after its end: found 9 bytes of data, expected 8 for 1 rows and 2 columns");
}

TEST_F(EmbeddingsFile, RefusesNpyOfAnotherTypeOrShape) {
  const auto error = [&](const std::string& descr, const std::string& shape) {
    return npy_error(npy(header(descr, shape), bytes_of(std::vector<float>{1, 2})));
  };
  const std::string convert = ": convert it to float32, for instance with array.astype('<f4')";
  EXPECT_EQ(error("<f8", "(1, 1)"), "x.npy: holds the type '<f8'; expected '<f4' or '<f2'" + convert);
  EXPECT_EQ(error("<i8", "(1, 1)"), "x.npy: holds the type '<i8'; expected '<f4' or '<f2'" + convert);
  EXPECT_EQ(error(">f4", "(1, 2)"), "x.npy: holds the type '>f4'; expected '<f4' or '<f2' (little-endian)" + convert);
  EXPECT_EQ(error("<f4", "(2,)"), "x.npy: has 1 dimensions; expected 2, [rows, columns]");
  EXPECT_EQ(error("<f4", "()"), "x.npy: has 0 dimensions; expected 2, [rows, columns]");
  EXPECT_EQ(error("<f4", "(1, 1, 2)"), "x.npy: has 3 dimensions; expected 2, [rows, columns]");
  EXPECT_EQ(error("<f4", "(0, 2)"), "x.npy: has 0 rows and 2 columns; expected at least one of each");
  EXPECT_EQ(error("<f4", "(2, 0)"), "x.npy: has 2 rows and 0 columns; expected at least one of each");
  EXPECT_EQ(error("<f4", "(4611686018427387904, 4)"),
            "x.npy: claims 4611686018427387904 rows and 4 columns, more than any file can hold");
  EXPECT_EQ(npy_error(npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1)}", bytes_of(1.0f))),
            "x.npy: is in Fortran order; expected C order: save numpy.ascontiguousarray(array)");
}

TEST_F(EmbeddingsFile, RefusesNpyHeadersThatAreNoSuchDictionary) {
  const std::string expected = "; expected {'descr': '<f4' or '<f2', 'fortran_order': False, 'shape': (rows, columns)}";
  const struct {
    const char* header;
    const char* found;
  } cases[] = {
      {"", "no '{' where one belongs"},
      {"{'descr': '<f4'}", "no value for 'descr', 'fortran_order' or 'shape'"},
      {"{'descr': '<f4'} x", "text after the dictionary"},
      {"{'descr': '<f4' 'shape': (1, 1)}", "no '}' where one belongs"},
      {"{'descr' '<f4'}", "no ':' where one belongs"},
      {"{'descr': [('a', '<f4')]}", "something else than a string (a structured type?)"},
      {"{'descr': '<f4", "a string without its end"},
      {"{'descr': '<f4', 'descr': '<f4'}", "the key 'descr' twice"},
      {"{'order': '<f4'}", "the unknown key 'order'"},
      {"{'fortran_order': 0}", "a 'fortran_order' that is neither True nor False"},
      {"{'shape': [1, 1]}", "no '(' where one belongs"},
      {"{'shape': (1, -1)}", "a 'shape' that is not a tuple of sizes"},
      {"{'shape': (1, 99999999999999999999)}", "a 'shape' that is not a tuple of sizes"},
      {"{'shape': (1 1)}", "no ')' where one belongs"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(npy_error(npy(c.header, "1234")), std::string("x.npy: the .npy header holds ") + c.found + expected);
  }
}

TEST_F(EmbeddingsFile, RefusesMoreRowsThanAnIndexHolds) {
  const std::filesystem::path file = write("x.npy", npy(header("<f2", "(2147483648, 1)"), ""));
  // A sparse file: 4 GiB of zeros that take no room.
  std::filesystem::resize_file(file, std::filesystem::file_size(file) + (uint64_t{1} << 32));
  EXPECT_EQ(error_of([&] { Embeddings::open(file); }), "x.npy: has 2147483648 rows; expected at most 2147483647");
}

TEST_F(EmbeddingsFile, RefusesValuesThatAreNotFinite) {
  // Values 0 and 4095 to 4097 stand at the ends of the blocks that the check reads at once.
  for (const size_t at : {size_t{0}, size_t{5}, size_t{4095}, size_t{4096}, size_t{9999}}) {
    for (const float bad : {kNan, -kInfinity}) {
      std::vector<float> values(10000, 1);
      values[at] = bad;
      EXPECT_EQ(npy_error(npy(header("<f4", "(100, 100)"), bytes_of(values))),
                "x.npy: row " + std::to_string(at / 100) + ", column " + std::to_string(at % 100) + " is " +
                    (bad < 0 ? "-inf" : "nan") + "; expected a finite number");
    }
  }
  EXPECT_EQ(npy_error(npy(header("<f2", "(1, 2)"), bytes_of(std::vector<uint16_t>{0x3C00, 0x7C00}))),
            "x.npy: row 0, column 1 is inf; expected a finite number");
  EXPECT_EQ(safetensors_error(safetensors(R"({"x": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [0, 4]}})",
                                          bytes_of(std::vector<uint16_t>{0x7F7F, 0x7F81}))),
            "x.safetensors, tensor 'x': row 1, column 0 is nan; expected a finite number");
}

TEST_F(EmbeddingsFile, RefusesTensorsThatItCannotTakeOrChoose) {
  const std::string two = R"({"a": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
                              "b": {"dtype": "I32", "shape": [1, 1], "data_offsets": [4, 8]}})";
  EXPECT_EQ(safetensors_error(safetensors(two, "12345678")),
            "x.safetensors: holds several tensors, 'a', 'b'; name one with --tensor");
  EXPECT_EQ(safetensors_error(safetensors(two, "12345678"), "c"), "x.safetensors: holds no tensor 'c', but 'a', 'b'");
  EXPECT_EQ(safetensors_error(safetensors(two, "12345678"), "b"),
            "x.safetensors, tensor 'b': has the dtype I32; expected F32, F16 or BF16");
  EXPECT_EQ(safetensors_error(safetensors("{}", "")), "x.safetensors: holds no tensor");
  EXPECT_EQ(safetensors_error(safetensors(R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})", "1234")),
            "x.safetensors, tensor 'a': has 1 dimensions; expected 2, [rows, columns]");
  EXPECT_EQ(safetensors_error(safetensors(R"({"a": {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]}})", "")),
            "x.safetensors, tensor 'a': has 0 rows and 3 columns; expected at least one of each");
}

}  // namespace
}  // namespace rewardhead::dataset
