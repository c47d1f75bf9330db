# One image for every part of the simulator: the binary, its C library, nothing else.
# Without access to an image registry: docker/stand-in-images makes both bases first.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --package azimuth-cli \
 && mkdir -p /image/usr/local/bin /volumes/data /volumes/certs /volumes/connect /volumes/fleets \
 && cp target/release/azimuth /image/usr/local/bin/

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /image/ /
# A named volume takes over the owner of the folder it is mounted on.
COPY --from=build --chown=65532:65532 /volumes/ /
ENV AZIMUTH_DATA=/data
USER 65532:65532
EXPOSE 8883 443
ENTRYPOINT ["azimuth"]
