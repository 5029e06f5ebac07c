import HTTPCodec
import Primitives
import Testing

@Suite("Bodies") struct BodyDecoderTests {
  private func decode(
    _ framing: BodyFraming, _ bytes: [UInt8], step: Int
  ) throws(MessageError) -> (body: [UInt8], used: Int, trailers: HeaderBlock?)? {
    var decoder = BodyDecoder(framing)
    var body: [UInt8] = []
    var position = 0
    var end = 0
    repeat {
      end = step == .max ? bytes.count : min(bytes.count, end + step)
      let part = Array(bytes[..<end])
      loop: while true {
        switch try decoder.next(part.span, from: &position) {
        case .data(let range): body += part[range]
        case .needMore: break loop
        case .end: return (body, position, decoder.trailers)
        }
      }
    } while end < bytes.count
    return nil
  }

  @Test func `chunks are put together in any pieces, and the next message is left`() throws {
    let bytes = Array("3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\nNEXT".utf8)
    for step in [1, 2, 3, 5, 11, .max] {
      let found = try #require(try decode(.chunked, bytes, step: step))
      #expect(found.body == Array("abc0123456789".utf8))
      #expect(found.used == bytes.count - 4)
      #expect(found.trailers?.plainFields == [HTTPField("x-sum", "1")])
    }
  }

  @Test(arguments: [
    "\r\n", "g\r\n", "0x1\r\na\r\n", "+1\r\na\r\n", " 1\r\na\r\n", "1 \r\na\r\n", "80000000\r\n", "11111111111111111\r\n",
    "1\na\r\n",
    "1\r\nab\r\n", "1\r\na\n", "1;\n\r\na\r\n", "1;a\0\r\na", "0\r\nX : 1\r\n\r\n", "0\r\nX: 1\n\r\n",
  ]) func `A8, A9, A12: a malformed chunk is an error and never a shorter body`(text: String) {
    for step in [1, .max] {
      #expect(throws: MessageError.self) {
        if try decode(.chunked, Array(text.utf8), step: step) == nil { throw MessageError(.endedEarly) }
      }
    }
  }

  @Test func `what the encoder writes, the decoder reads`() throws {
    var draws = SeededGenerator(seed: 5)
    for _ in 0..<200 {
      var body: [UInt8] = []
      var wire: [UInt8] = []
      for _ in 0..<draws.index(below: 6) {
        let chunk = (0..<(1 + draws.index(below: 40))).map { _ in UInt8(draws.below(256)) }
        body += chunk
        ChunkedEncoder.write(chunk.span, into: &wire)
      }
      ChunkedEncoder.writeEnd(trailers: nil, into: &wire)
      let found = try #require(try decode(.chunked, wire, step: 1 + draws.index(below: 9)))
      #expect(found.body == body)
      #expect(found.used == wire.count)
    }
  }

  @Test func `a length is counted exactly, and a cut body is an error`() throws {
    let found = try #require(try decode(.length(3), Array("abcdef".utf8), step: 2))
    #expect(found.body == Array("abc".utf8))
    #expect(found.used == 3)
    var decoder = BodyDecoder(.length(3))
    #expect((try? decoder.finish()) == nil)
    var open = BodyDecoder(.untilClose)
    try open.finish()
    #expect(open.isComplete)
  }

  @Test func `random bytes never trap`() {
    var draws = SeededGenerator(seed: 9)
    for _ in 0..<20_000 {
      let bytes = (0..<draws.index(below: 60)).map { _ in "0123456789abcdef;\r\n: x".utf8.randomByte(&draws) }
      _ = try? decode(.chunked, bytes, step: 1 + draws.index(below: 7))
    }
  }

  @Test func `RFC 9112 6.3: how a response ends`() throws {
    let cases: [(String, HTTPMethod, BodyFraming?)] = [
      ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", .get, .length(5)),
      ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", .head, BodyFraming.none),
      ("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", .get, BodyFraming.none),
      ("HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", .get, BodyFraming.none),
      ("HTTP/1.1 200\r\n\r\n", .get, .untilClose),
      ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", .get, nil),
      ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", .get, nil),
      ("HTTP/1.1 99 x\r\n\r\n", .get, nil),
      ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", .get, .chunked),
    ]
    for (text, method, framing) in cases {
      var parser = ResponseParser()
      var head = ResponseHead()
      let bytes = Array(text.utf8)
      let used = try? parser.parse(bytes.span, from: 0, answering: method, into: &head)
      #expect((used == nil ? nil : head.framing) == framing, "\(text)")
    }
  }
}

extension String.UTF8View {
  fileprivate func randomByte(_ draws: inout SeededGenerator) -> UInt8 {
    self[index(startIndex, offsetBy: draws.index(below: count))]
  }
}
