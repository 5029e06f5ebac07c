import Transport

/// Any bytes as what arrives on a link: how they are cut into pieces does not matter, and what was read can be written again.
func fuzzLinkFrames(_ bytes: [UInt8]) {
  let whole = frames(of: bytes, pieces: bytes.count)
  for pieces in [1, 7] { promise(frames(of: bytes, pieces: pieces) == whole, "pieces of \(pieces) bytes change nothing") }
  var written: [UInt8] = []
  for frame in whole.frames {
    promise(frame.body.count <= frame.kind.bodyBytesMax, "a message is no longer than its kind allows")
    frame.encode(into: &written)
  }
  promise(frames(of: written, pieces: written.count).frames == whole.frames, "frames that are written can be read")
}

private struct Outcome: Equatable {
  var frames: [Frame] = []
  var error: FrameError?
}

private func frames(of bytes: [UInt8], pieces: Int) -> Outcome {
  var outcome = Outcome()
  var decoder = FrameDecoder()
  var rest = bytes[...]
  do throws(FrameError) {
    while !rest.isEmpty {
      let piece = rest.prefix(max(1, pieces))
      rest = rest.dropFirst(piece.count)
      decoder.append(piece)
      while let frame = try decoder.next() { outcome.frames.append(frame) }
    }
  } catch {
    outcome.error = error
  }
  return outcome
}

/// Any bytes as the body of a call, a reply or a watch, whose kind the first byte chooses.
func fuzzCallMessages(_ bytes: [UInt8]) {
  let kinds: [FrameKind] = [.request, .reply, .route, .watch, .watching, .terminated, .cancel, .unwatch]
  guard let first = bytes.first else { return }
  let kind = kinds[Int(first) % kinds.count]
  let frame = Frame(kind: kind, lane: .calls, body: Array(bytes.dropFirst()))
  promise(frame.isReadable == frame.isReadable, "bytes are read the same way twice")
}
