import HTTPCodec
import Synchronization
import Testing

@testable import BookinfoDemo

@Suite struct RatingsTests {
  private func ratings(_ version: String? = "v1", uptime: Duration = .zero) -> Ratings {
    Ratings(version: version, seed: 7) { uptime }
  }

  @Test(arguments: [
    ("/ratings/0", 200, #"{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#),
    ("/ratings/12abc", 200, #"{"id":12,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#),
    ("/ratings/-3", 200, #"{"id":-3,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#),
    ("/ratings/a/9", 200, #"{"id":9,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#),
    ("/ratings/abc", 400, #"{"error":"please provide numeric product ID"}"#),
    ("/ratings/", 400, #"{"error":"please provide numeric product ID"}"#),
    ("/health", 200, #"{"status":"Ratings is healthy"}"#),
  ])
  func `answers byte for byte`(path: String, status: Int, body: String) {
    let response = ratings().respond(to: .get(path))
    #expect(response.status == status)
    #expect(response.text == body)
    #expect(response.header("content-type") == "application/json")
  }

  @Test func `posted ratings are kept for their product`() {
    let ratings = ratings()
    let body = #"{ "Reviewer1" : 1, "Reviewer2": [2] }"#
    let kept = #"{"id":3,"ratings":{"Reviewer1":1,"Reviewer2":[2]}}"#
    #expect(ratings.respond(to: .post("/ratings/3", body)).text == kept)
    #expect(ratings.respond(to: .get("/ratings/3")).text == kept)
    #expect(ratings.respond(to: .get("/ratings/4")).text == #"{"id":4,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#)
  }

  @Test func `bad JSON is refused, and the number of products kept is bounded`() {
    let ratings = ratings()
    #expect(ratings.respond(to: .post("/ratings/3", "{")).text == #"{"error":"please provide valid ratings JSON"}"#)
    #expect(ratings.respond(to: .post("/ratings/x", "{}")).status == 400)
    for product in 0..<Limits.postedRatings { _ = ratings.respond(to: .post("/ratings/\(product)", "{}")) }
    #expect(ratings.respond(to: .post("/ratings/\(Limits.postedRatings)", "{}")).status == 503)
    #expect(ratings.respond(to: .post("/ratings/0", "{}")).status == 200)
  }

  @Test func `v-faulty fails about half of the requests`() {
    let ratings = ratings("v-faulty")
    let answers = (0..<1000).map { _ in ratings.respond(to: .get("/ratings/0")) }
    let failures = answers.filter { $0.status == 503 }
    #expect((400...600).contains(failures.count))
    #expect(failures.allSatisfy { $0.text == #"{"error":"Service unavailable"}"# })
  }

  @Test func `v-delayed holds back about half of the answers for seven seconds`() {
    let ratings = ratings("v-delayed")
    let delays = (0..<1000).map { _ in ratings.delay(of: .get("/ratings/0")) }
    #expect(Set(delays) == [.zero, .seconds(7)])
    #expect((400...600).contains(delays.filter { $0 > .zero }.count))
    #expect(ratings.delay(of: .get("/health")) == .zero)
    #expect(self.ratings().delay(of: .get("/ratings/0")) == .zero)
  }

  @Test(arguments: [
    ("v-unavailable", 59, 200, 200), ("v-unavailable", 60, 503, 200), ("v-unavailable", 120, 200, 200),
    ("v-unhealthy", 899, 200, 200), ("v-unhealthy", 900, 503, 500), ("v-unhealthy", 1800, 200, 200),
  ])
  func `good and bad phases take turns`(version: String, second: Int, status: Int, health: Int) {
    let ratings = ratings(version, uptime: .seconds(second))
    #expect(ratings.respond(to: .get("/ratings/0")).status == status)
    #expect(ratings.respond(to: .get("/health")).status == health)
  }

  private struct FixedDatabase: RatingsDatabase {
    var result: Result<[JSON], RatingsDatabaseError>
    func firstTwoRatings() throws(RatingsDatabaseError) -> (first: JSON, second: JSON) {
      let values = try result.get()
      return (values[0], values[1])
    }
  }

  @Test func `v2 answers from its database and takes no posts`() {
    let database = FixedDatabase(result: .success([.integer(1), .null]))
    let ratings = Ratings(version: "v2", database: database, seed: 1) { .zero }
    #expect(ratings.respond(to: .get("/ratings/0")).text == #"{"id":0,"ratings":{"Reviewer1":1,"Reviewer2":null}}"#)
    let refusal = ratings.respond(to: .post("/ratings/0", "{}"))
    #expect(refusal.status == 501)
    #expect(refusal.text == #"{"error":"Post not implemented for database backed ratings"}"#)
  }

  @Test func `a database error keeps its status, even 200`() {
    let error = RatingsDatabaseError(status: 200, message: "could not connect to ratings database", reason: "")
    let ratings = Ratings(version: "v2", database: FixedDatabase(result: .failure(error)), seed: 1) { .zero }
    let response = ratings.respond(to: .get("/ratings/0"))
    #expect(response.status == 200)
    #expect(response.text == #"{"error":"could not connect to ratings database"}"#)
  }
}
