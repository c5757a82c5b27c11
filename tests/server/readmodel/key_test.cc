#include "server/readmodel/key.h"

#include <string>

#include "server/domain/errors.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"

namespace persistd::readmodel {
namespace {

using domain::ReadModelKey;
using testing::Must;

TEST_CASE("A key has a type and an id of tokens", "[key]") {
  for (const char* id : {"42", "electronics.42", "a.b.c.d", "größe.L", "with blank", "a/b", "*", ">"}) {
    CAPTURE(id);
    CHECK(ValidateKey({.type = "products", .id = id}).ok());
  }
  for (const std::string& id :
       {std::string(), std::string("."), std::string("a."), std::string(".a"), std::string("a..b"), std::string("\xff"),
        std::string(257, 'x'), std::string(129, 'x'), std::string("1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17")}) {
    CAPTURE(id);
    const absl::Status status = ValidateKey({.type = "products", .id = id}, "write.key.");
    CHECK(domain::GetErrorDetail(status)->field_violation().field() == "write.key.id");
  }
  CHECK(domain::GetErrorDetail(ValidateKey({.type = "_x", .id = "1"}))->field_violation().field() == "key.type");
}

TEST_CASE("A key in the bucket is told apart by its generation, and is the only one of its document", "[key]") {
  const ReadModelKey key{.type = "products", .id = "größe.L 1"};
  CHECK(BucketKey(key, "0") == "products.0.gr=C3=B6=C3=9Fe.L=201");
  CHECK(ParseBucketKey(BucketKey(key, "0"), "0") == key);
  CHECK_FALSE(ParseBucketKey(BucketKey(key, "1"), "0").has_value());
  for (const char* other : {"products", "products.0", "products.0.", "products.0.a=2Eb", "products.0.=61", "_x.0.a",
                            "products.0.a..b", "products.0.a=c3"}) {
    CAPTURE(other);
    CHECK_FALSE(ParseBucketKey(other, "0").has_value());
  }
  CHECK(ChangeSubject(key, "saved") == "cim.readmodels.products.gr=C3=B6=C3=9Fe.L=201.saved");
}

TEST_CASE("A pattern selects by hierarchy, and what is none is refused", "[key]") {
  CHECK(Must(BucketPattern("p", "0", "", "f")) == "p.0.>");
  CHECK(Must(BucketPattern("p", "0", "electronics.*", "f")) == "p.0.electronics.*");
  CHECK(Must(BucketPattern("p", "0", "*.a b.>", "f")) == "p.0.*.a=20b.>");
  for (const char* pattern : {">.a", "a*", "*a.b", "a.>b", ".", "a..b"}) {
    CAPTURE(pattern);
    CHECK(domain::GetErrorDetail(BucketPattern("p", "0", pattern, "f").status())->field_violation().field() == "f");
  }
  CHECK(BucketPrefix("p", "0", "a.") == "p.0.a.");
  CHECK(BucketPrefix("p", "0", "") == "p.0.");
}

}  // namespace
}  // namespace persistd::readmodel
