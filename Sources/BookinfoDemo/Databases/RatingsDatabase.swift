/// Where `v2` of ratings finds the stars.
protocol RatingsDatabase: Sendable {
  /// The first two ratings; 0 for one that is missing. A new connection each time.
  func firstTwoRatings() throws(RatingsDatabaseError) -> (first: JSON, second: JSON)
}

/// What the original answers when its database fails, and why for the log.
struct RatingsDatabaseError: Error, Hashable, Sendable {
  var status: Int
  var message: String
  var reason: String
}
