import Primitives
import Testing

@testable import BookinfoDemo

@Suite struct MongoRatingsTests {
  /// Reads one message and answers it with `reply`, framed as OP_MSG.
  private static func server(_ reply: [BSON.Member]) throws -> FakeServer {
    let body = BSON.encode(reply)
    var message: [UInt8] = []
    message.appendLittleEndian(Int32(16 + 5 + body.count))
    for value in [9, 1, 2013, 0] as [Int32] { message.appendLittleEndian(value) }
    return try Self.server(bytes: message + [0] + body)
  }

  private static func server(bytes: [UInt8]) throws -> FakeServer {
    try FakeServer { stream in
      var received = 0
      while received < MongoRatings.query.count, let bytes = try? stream.read(until: .soon), !bytes.isEmpty {
        received += bytes.count
      }
      try? stream.write(bytes, until: .soon)
    }
  }

  private func ratings(_ port: UInt16) throws -> MongoRatings {
    try MongoRatings(environment: Environment(["MONGO_DB_URL": "mongodb://127.0.0.1:\(port)/test"]), timeout: .seconds(10))
  }

  private static func batch(_ documents: [BSON]) -> [BSON.Member] {
    [
      .init(name: "cursor", value: .document([.init(name: "firstBatch", value: .array(documents))])),
      .init(name: "ok", value: .double(1)),
    ]
  }

  private static func document(_ rating: BSON) -> BSON {
    .document([.init(name: "_id", value: .other), .init(name: "rating", value: rating)])
  }

  @Test(
    arguments: [
      ([.int32(5), .double(4)], JSON.integer(5), JSON.integer(4)), ([.int64(1)], .integer(1), .integer(0)),
      ([], .integer(0), .integer(0)), ([.double(2.5), .other], .number("2.5"), .null),
    ] as [([BSON], JSON, JSON)])
  func `the first two documents count, missing ones are 0`(values: [BSON], first: JSON, second: JSON) throws {
    let server = try Self.server(Self.batch(values.map(Self.document)))
    let result = try ratings(server.port).firstTwoRatings()
    #expect(result.first == first)
    #expect(result.second == second)
  }

  @Test func `errors keep the original's words and status`() throws {
    let refusing = try Self.server([.init(name: "ok", value: .double(0)), .init(name: "errmsg", value: .string("no"))])
    #expect(throws: RatingsDatabaseError.self) { try ratings(refusing.port).firstTwoRatings() }
    let closed = try Listener(address: "127.0.0.1", port: 0).port
    let error = #expect(throws: RatingsDatabaseError.self) { try ratings(closed).firstTwoRatings() }
    #expect(error?.status == 500)
    #expect(error?.message == "could not connect to ratings database")
  }

  @Test(
    arguments: [[], [1, 2, 3], [255, 255, 255, 127] + [UInt8](repeating: 0, count: 20), [UInt8](repeating: 255, count: 64)]
      as [[UInt8]])
  func `nonsense from the database is an error`(bytes: [UInt8]) throws {
    let server = try Self.server(bytes: bytes)
    let error = #expect(throws: RatingsDatabaseError.self) { try ratings(server.port).firstTwoRatings() }
    #expect(error?.message == "could not load ratings from database")
  }

  @Test func `BSON survives cutting and flipping without a trap`() throws {
    let bytes = BSON.encode(Self.batch([Self.document(.int32(5)), Self.document(.string("x")), .bool(true), .int64(7)]))
    var whole = LittleEndianReader(bytes)
    #expect(try BSON.document(BSON.decode(&whole))["ok"] == .double(1))
    for index in bytes.indices {
      var cut = LittleEndianReader(bytes.prefix(index))
      #expect(throws: ByteError.self) { try BSON.decode(&cut) }
      for value in [0, 1, 0x7F, 0x80, 0xFF] as [UInt8] {
        var changed = bytes
        changed[index] = value
        var reader = LittleEndianReader(changed)
        _ = try? BSON.decode(&reader)
      }
    }
  }

  @Test(arguments: ["http://x", "mongodb://", "mongodb://u:p@h/", "mongodb://h:x/"])
  func `an address that cannot be understood is said at start`(url: String) {
    #expect(throws: UsageError.self) { try MongoRatings(environment: Environment(["MONGO_DB_URL": url])) }
  }
}

@Suite struct MySQLRatingsTests {
  private static func packet(_ sequence: UInt8, _ payload: [UInt8]) -> [UInt8] {
    [UInt8(payload.count & 255), UInt8(payload.count >> 8), 0, sequence] + payload
  }

  private static let challenge = Array("abcdefghijklmnopqrst".utf8)

  private static func greeting(_ method: String) -> [UInt8] {
    let fixed: [UInt8] =
      [10] + Array("8.0".utf8) + [0, 1, 0, 0, 0] + challenge.prefix(8) + [0, 0xFF, 0xFF, 45, 2, 0, 0xFF, 0xFF, 21]
    return packet(0, fixed + [UInt8](repeating: 0, count: 10) + challenge.dropFirst(8) + [0] + Array(method.utf8) + [0])
  }

  private static let ok = [0, 0, 0, 2, 0, 0, 0] as [UInt8]
  private static let end = [0xFE, 0, 0, 2, 0] as [UInt8]

  private static func rows(_ values: [String?]) -> [UInt8] {
    var bytes = packet(1, [1]) + packet(2, Array("def column".utf8)) + packet(3, end)
    var sequence: UInt8 = 4
    for value in values {
      bytes += packet(sequence, value.map { [UInt8($0.utf8.count)] + Array($0.utf8) } ?? [0xFB])
      sequence += 1
    }
    return bytes + packet(sequence, end)
  }

  /// Greets, then answers each packet it receives with the next of `answers`.
  private static func server(_ answers: [[UInt8]], method: String = "mysql_native_password") throws -> FakeServer {
    try FakeServer { stream in
      try? stream.write(greeting(method), until: .soon)
      for answer in answers {
        guard let bytes = try? stream.read(until: .soon), !bytes.isEmpty else { return }
        try? stream.write(answer, until: .soon)
      }
    }
  }

  private func ratings(_ port: UInt16) throws -> MySQLRatings {
    let variables = ["MYSQL_DB_HOST": "127.0.0.1", "MYSQL_DB_PORT": "\(port)", "MYSQL_DB_PASSWORD": "secret"]
    return try MySQLRatings(environment: Environment(variables), timeout: .seconds(10))
  }

  @Test(
    arguments: [
      (["5", "4"], JSON.integer(5), JSON.integer(4)), (["1"], .integer(1), .integer(0)), ([], .integer(0), .integer(0)),
      ([nil, "x"], .null, "x"), (["1", "2", "3"], .integer(1), .integer(2)),
    ] as [([String?], JSON, JSON)])
  func `the first column of the first two rows counts`(values: [String?], first: JSON, second: JSON) throws {
    let server = try Self.server([Self.packet(2, Self.ok), Self.rows(values)])
    let result = try ratings(server.port).firstTwoRatings()
    #expect(result.first == first)
    #expect(result.second == second)
  }

  @Test func `a cached caching_sha2 password and a change of method are followed`() throws {
    let cached = try Self.server(
      [Self.packet(2, [1, 3]) + Self.packet(3, Self.ok), Self.rows(["5"])], method: "caching_sha2_password")
    #expect(try ratings(cached.port).firstTwoRatings().first == .integer(5))
    let change = [0xFE] + Array("mysql_native_password".utf8) + [0] + Self.challenge + [0]
    let changed = try Self.server(
      [Self.packet(2, change), Self.packet(4, Self.ok), Self.rows(["3"])], method: "caching_sha2_password")
    #expect(try ratings(changed.port).firstTwoRatings().first == .integer(3))
  }

  @Test func `a database is reached through the proxy, whose answer and the greeting may come together`() throws {
    let server = try FakeServer { stream in
      guard let request = try? stream.read(until: .soon) else { return }
      let isTunnel = String(decoding: request, as: UTF8.self).hasPrefix("CONNECT mysqldb:3306 HTTP/1.1\r\n")
      try? stream.write(
        Array("HTTP/1.1 \(isTunnel ? 200 : 400) x\r\n\r\n".utf8) + Self.greeting("mysql_native_password"), until: .soon)
      for answer in [Self.packet(2, Self.ok), Self.rows(["5", "4"])] {
        guard let bytes = try? stream.read(until: .soon), !bytes.isEmpty else { return }
        try? stream.write(answer, until: .soon)
      }
    }
    let variables = ["MYSQL_DB_HOST": "mysqldb", "MYSQL_DB_PASSWORD": "secret", "http_proxy": "127.0.0.1:\(server.port)"]
    let ratings = try MySQLRatings(environment: Environment(variables), timeout: .seconds(10))
    #expect(try ratings.firstTwoRatings().second == .integer(4))
  }

  @Test func `a connect error is a 200, a query error a 500`() throws {
    let refusal = [0xFF, 0x15, 0x04] + Array("#28000Access denied".utf8)
    let closed = try Listener(address: "127.0.0.1", port: 0).port
    let refusing = try Self.server([Self.packet(2, refusal)])
    for port in [closed, refusing.port] {
      let error = #expect(throws: RatingsDatabaseError.self) { try ratings(port).firstTwoRatings() }
      #expect(error?.status == 200)
      #expect(error?.message == "could not connect to ratings database")
    }
    let failing = try Self.server([Self.packet(2, Self.ok), Self.packet(1, refusal)])
    let error = #expect(throws: RatingsDatabaseError.self) { try ratings(failing.port).firstTwoRatings() }
    #expect(error?.status == 500)
    #expect(error?.message == "could not perform select")
    #expect(error?.reason.hasSuffix("Access denied") == true)
  }

  @Test func `proofs agree with the definitions`() {
    // SHA1(password) XOR SHA1(challenge + SHA1(SHA1(password))) of the password "secret", from an independent computation.
    #expect(
      hexString(MySQLPassword.native.proof("secret", challenge: Self.challenge)) == "8817c50fa779daef010ee7577825b0847df9842e")
    #expect(
      hexString(MySQLPassword.cachingSHA2.proof("secret", challenge: Self.challenge))
        == "c76e2898612a4cf042c77fa8c4702c4c64c0c2c557c53c4d75595aaa6abae809")
    #expect(MySQLPassword.native.proof("", challenge: Self.challenge).isEmpty)
  }
}
