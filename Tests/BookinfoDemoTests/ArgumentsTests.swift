import Testing

@testable import BookinfoDemo

@Suite struct ArgumentsTests {
  @Test func `a full command line is read`() throws {
    guard case .serve(let arguments) = try Command(parsing: ["reviews", "--version", "v3", "--port=9080", "--address", "::1"])
    else {
      Issue.record("not understood")
      return
    }
    #expect(arguments.service == .reviews)
    #expect(arguments.version == "v3")
    #expect(arguments.port == 9080)
    #expect(arguments.address == "::1")
  }

  @Test func `version 1 on the loopback address is the default`() throws {
    guard case .serve(let arguments) = try Command(parsing: ["details", "--port", "0"]) else {
      Issue.record("not understood")
      return
    }
    #expect(arguments.version == "v1")
    #expect(arguments.address == "127.0.0.1")
  }

  @Test(arguments: [[], ["--help"], ["reviews", "--help"], ["help"]])
  func `help is shown when asked for or when nothing is`(words: [String]) throws {
    #expect(try Command(parsing: words) == .help)
  }

  @Test(arguments: [
    (["shop", "--port", "1"], "the services are productpage, details, reviews, ratings"),
    (["reviews"], "--port 9080"), (["reviews", "--port"], "--port needs a value"),
    (["reviews", "--port", "+80"], "a number from 1 to 65535"), (["reviews", "--port", "65536"], "a number from 1 to 65535"),
    (["reviews", "--port", "1", "--version", "v4"], "v1, v2, v3"), (["reviews", "--port", "1", "--fast"], "--help"),
    (["reviews", "--port", "1", "--port", "2"], "given twice"),
  ])
  func `a bad command line says what to write instead`(words: [String], hint: String) {
    let error = #expect(throws: UsageError.self) { try Command(parsing: words) }
    #expect(error?.description.contains(hint) == true)
  }

  @Test func `versions bring their image's environment, and the process's own wins`() throws {
    #expect(ServiceImage.defaults(.reviews, version: "v3") == ["ENABLE_RATINGS": "true", "STAR_COLOR": "red"])
    #expect(ServiceImage.defaults(.ratings, version: "v2-mysql") == ["SERVICE_VERSION": "v2", "DB_TYPE": "mysql"])
    #expect(ServiceImage.defaults(.ratings, version: "v-faulty") == ["SERVICE_VERSION": "v-faulty"])
    let merged = Environment(["STAR_COLOR": "blue"]).withDefaults(ServiceImage.defaults(.reviews, version: "v3"))
    #expect(merged["STAR_COLOR"] == "blue")
    #expect(merged["ENABLE_RATINGS"] == "true")
  }
}
