import CLinux
import Dispatch
import Glibc
import Synchronization

/// A database outside the mesh that holds two ratings, as far as Bookinfo's ratings service asks it.
final class RatingsDatabase: Sendable {
  enum Kind: UInt16 {
    case mongo = 27017
    case mysql = 3306
  }

  private let descriptor: Int32
  private let ratings = Mutex([5, 4])
  private let asked = Mutex(0)

  /// Whole conversations so far.
  var conversations: Int { asked.withLock { $0 } }

  func set(_ values: [Int]) { ratings.withLock { $0 = values } }

  init(_ kind: Kind, address: String) throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    self.descriptor = descriptor
    _ = cl_set_reuse_address(descriptor)
    var own = sockaddr_in(address, kind.rawValue)
    let code = withUnsafePointer(to: &own) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
    guard code == 0, listen(descriptor, 16) == 0 else {
      throw ConformanceFailure("\(address):\(kind.rawValue): \(String(cString: strerror(errno)))")
    }
    DispatchQueue(label: "database").async { [self] in
      while true {
        let client = accept(descriptor, nil, nil)
        guard client >= 0 else { return }
        if (try? kind == .mongo ? answerMongo(client) : answerMySQL(client)) != nil { asked.withLock { $0 += 1 } }
        close(client)
      }
    }
  }

  func stop() {
    shutdown(descriptor, Int32(SHUT_RDWR))
    close(descriptor)
  }

  private func read(_ client: Int32, _ count: Int) throws -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < count {
      var chunk = [UInt8](repeating: 0, count: count - bytes.count)
      let received = recv(client, &chunk, chunk.count, 0)
      guard received > 0 else { throw ConformanceFailure("the client left") }
      bytes += chunk.prefix(received)
    }
    return bytes
  }

  private func write(_ client: Int32, _ bytes: [UInt8]) { _ = cl_send(client, bytes, bytes.count) }

  // MARK: MongoDB wire protocol: one OP_MSG each way

  private func answerMongo(_ client: Int32) throws {
    let start = try read(client, 16)
    let query = try read(client, (Int(start[0]) | Int(start[1]) << 8) - 16)
    guard Self.contains(query, "find"), Self.contains(query, "ratings") else { throw ConformanceFailure("not a find") }
    let documents = ratings.withLock { $0 }.enumerated().map { index, rating in
      Self.element(0x03, "\(index)", Self.document([Self.element(0x10, "rating", Self.bytes(Int32(rating)))]))
    }
    let cursor = Self.document([Self.element(0x04, "firstBatch", Self.document(documents))])
    let body = Self.document([Self.element(0x03, "cursor", cursor), Self.element(0x01, "ok", Self.bytes(Double(1).bitPattern))])
    let header: [Int32] = [Int32(21 + body.count), 1, 1, 2013, 0]
    let message = header.flatMap { Self.bytes($0) } + [0] + body
    write(client, message)
  }

  private static func document(_ elements: [[UInt8]]) -> [UInt8] {
    let content = elements.flatMap { $0 }
    return bytes(Int32(content.count + 5)) + content + [0]
  }

  private static func element(_ type: UInt8, _ name: String, _ value: [UInt8]) -> [UInt8] {
    [type] + Array(name.utf8) + [0] + value
  }

  private static func bytes<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }

  private static func contains(_ bytes: [UInt8], _ text: String) -> Bool {
    String(decoding: bytes, as: UTF8.self).contains(text)
  }

  // MARK: MySQL client/server protocol: greeting, log-in, one query. The server speaks first.

  private func answerMySQL(_ client: Int32) throws {
    let challenge = Array("abcdefghijklmnopqrst".utf8)
    var greeting: [UInt8] = [10] + Array("8.0".utf8) + [0, 1, 0, 0, 0] + Array(challenge.prefix(8))
    greeting += [0, 0xFF, 0xFF, 45, 2, 0, 0xFF, 0xFF, 21] + [UInt8](repeating: 0, count: 10)
    greeting += Array(challenge.suffix(12))
    greeting += [0] + Array("mysql_native_password".utf8) + [0]
    write(client, Self.packet(0, greeting))
    _ = try readPacket(client)
    write(client, Self.packet(2, [0, 0, 0, 2, 0, 0, 0]))
    guard Self.contains(try readPacket(client), "SELECT Rating FROM ratings") else { throw ConformanceFailure("not the query") }
    let end: [UInt8] = [0xFE, 0, 0, 2, 0]
    let rows: [[UInt8]] = ratings.withLock { $0 }.map { [1] + Array("\($0)".utf8) }
    let columns: [[UInt8]] = [[1], Array("def column".utf8), end]
    let packets = columns + rows + [end]
    write(client, packets.enumerated().flatMap { Self.packet(UInt8($0.offset + 1), $0.element) })
  }

  private func readPacket(_ client: Int32) throws -> [UInt8] {
    let header = try read(client, 4)
    return try read(client, Int(header[0]) | Int(header[1]) << 8)
  }

  private static func packet(_ sequence: UInt8, _ payload: [UInt8]) -> [UInt8] {
    [UInt8(payload.count & 255), UInt8(payload.count >> 8), 0, sequence] + payload
  }
}
