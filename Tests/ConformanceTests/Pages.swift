import Testing

/// Which version of reviews made a page, as a reader sees it.
enum ReviewsShown: String {
  case noStars, blackStars, redStars, ratingsUnavailable, reviewsUnavailable, nothing

  init(_ page: String) {
    if page.contains("text-black-500") {
      self = .blackStars
    } else if page.contains("flex gap-x-1 text-red-500") {
      self = .redStars
    } else if page.contains("Ratings service is currently unavailable") {
      self = .ratingsUnavailable
    } else if page.contains("Error fetching product reviews") {
      self = .reviewsUnavailable
    } else {
      self = page.contains("Book Reviews") ? .noStars : .nothing
    }
  }
}

extension Visitor {
  /// Opens the page `count` times; every page has to be a 200.
  func pages(_ count: Int) throws -> [ReviewsShown: Int] {
    var seen: [ReviewsShown: Int] = [:]
    for _ in 0..<count {
      let page = try get("/productpage")
      guard page.status == 200 else { throw ConformanceFailure("the page answered \(page.status)") }
      seen[ReviewsShown(page.text), default: 0] += 1
    }
    return seen
  }

  /// Asks the reviews API `count` times and counts the versions that answered, by the name of the workload in the answer.
  func versions(_ count: Int) throws -> [String: Int] {
    var seen: [String: Int] = [:]
    for _ in 0..<count {
      let answer = try get("/api/v1/products/0/reviews")
      guard answer.status == 200 else { throw ConformanceFailure("reviews answered \(answer.status)") }
      let version = ["v1", "v2", "v3"].first { answer.text.contains("\"reviews-\($0)-n2\"") } ?? answer.text
      seen[version, default: 0] += 1
    }
    return seen
  }
}

/// Expects `seen` to be what draws with these probabilities give, within 4 standard deviations each; says what was seen.
func expectShares(
  _ seen: [String: Int], _ expected: [String: Double], _ what: String, sourceLocation: SourceLocation = #_sourceLocation
) {
  let total = Double(seen.values.reduce(0, +))
  print("  \(what): \(seen.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", "))")
  #expect(Set(seen.keys) == Set(expected.keys), "\(what)", sourceLocation: sourceLocation)
  for (version, share) in expected {
    let deviation = (total * share * (1 - share)).squareRoot()
    let difference = abs(Double(seen[version] ?? 0) - total * share)
    #expect(difference <= 4 * deviation, "\(what): \(version) in \(seen)", sourceLocation: sourceLocation)
  }
}

extension Duration {
  var seconds: Double { self / .seconds(1) }
}
