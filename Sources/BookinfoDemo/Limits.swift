/// Every bound of the Bookinfo services, with its unit and its reason.
enum Limits {
  /// Connections served at once by one process; one thread each. Beyond: 503 and close.
  static let connections = 512
  /// Bytes of stack for a connection's thread: the deepest path (JSON of `jsonDepth`) needs a fraction of it.
  static let threadStackBytes = 1 << 20
  /// Bytes of a request or response body kept in memory. Beyond: 413, or a failed call.
  static let bodyBytes = 1 << 20
  /// Bytes taken from a socket in one read.
  static let readBytes = 16 << 10
  /// Levels of JSON arrays and objects, so that no document exhausts a thread's stack.
  static let jsonDepth = 64
  /// Bytes of a user's name: it travels in a cookie and in the `end-user` header.
  static let userNameBytes = 256
  /// Products whose ratings were posted and are kept in memory. Beyond: 503.
  static let postedRatings = 1_000
  /// Digits of a product number that every implementation of the services still holds exactly (2^53).
  static let productDigits = 15
  /// Extra calls to reviews for one page (`FLOOD_FACTOR`).
  static let floodFactor = 10_000
  /// Different status codes counted per backend: three digits each.
  static let countedCodes = 3_000
  /// Bytes of one message from a ratings database; a healthy answer has a few hundred.
  static let databaseMessageBytes = 1 << 20
  /// Rows, columns or documents read from a ratings database; two are used.
  static let databaseRows = 10_000
}
